// A load generator for etcd over gRPC: C connections, each with P requests outstanding, of etcd's own client.
//
// benchmarks/peers.py builds it with Debian's golang-go and golang-etcd-server-dev: GO111MODULE=off GOPATH=/usr/share/gocode.
// It has no go.mod, since etcd's client has another import path there than as a module.
//
// Prints "measuring" when the warm-up is over, "measured" at the end, then one JSON object with the fields of benchmarks/load.py. A put walks the same
// keys as load.py; a get is linearizable, which is the client's default, and one that finds no key is an error.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const fillBatch = 100 // etcd takes at most 128 operations a transaction

const (
	warming = int32(iota)
	measuring
	over
)

type result struct {
	Shape   string  `json:"shape"`
	Op      string  `json:"op"`
	Answers int     `json:"answers"`
	Errors  int     `json:"errors"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	OwnCPU  float64 `json:"own_cpu_s"`
	Threads int     `json:"threads"`
}

func ownCPU() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func percentileMs(ordered []time.Duration, percent int) float64 {
	if len(ordered) == 0 {
		return 0
	}
	at := len(ordered) * percent / 100
	if at >= len(ordered) {
		at = len(ordered) - 1
	}
	return float64(ordered[at].Microseconds()) / 1000
}

func key(number int) string { return fmt.Sprintf("key%09d", number) }

// fill writes every key that a get may ask for.
func fill(client *clientv3.Client, keys int, value string) {
	for first := 0; first < keys; first += fillBatch {
		var puts []clientv3.Op
		for number := first; number < first+fillBatch && number < keys; number++ {
			puts = append(puts, clientv3.OpPut(key(number), value))
		}
		if _, err := client.Txn(context.Background()).Then(puts...).Commit(); err != nil {
			log.Fatal(err)
		}
	}
}

func main() {
	endpoint := flag.String("endpoint", "", "the member to load, host:port")
	op := flag.String("op", "put", "put or get")
	shape := flag.String("shape", "1x1", "connections x outstanding")
	seconds := flag.Float64("seconds", 5, "how long to measure")
	warmUp := flag.Float64("warm-up", 1, "how long to load before")
	keys := flag.Int("keys", 10000, "how many keys")
	valueBytes := flag.Int("value-bytes", 64, "length of a value")
	flag.Parse()
	var connections, outstanding int
	if _, err := fmt.Sscanf(*shape, "%dx%d", &connections, &outstanding); err != nil || (*op != "put" && *op != "get") {
		log.Fatal("--shape is as in 100x10, --op is put or get")
	}
	value := strings.Repeat("v", *valueBytes)

	clients := make([]*clientv3.Client, connections)
	for number := range clients {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 10 * time.Second})
		if err != nil {
			log.Fatal(err)
		}
		clients[number] = client
	}
	if *op == "get" {
		fill(clients[0], *keys, value)
	}

	var count, failures int64
	phase := warming
	var waiting sync.WaitGroup
	taken := make([][]time.Duration, connections*outstanding)
	for worker := range taken {
		waiting.Add(1)
		go func(worker int) {
			defer waiting.Done()
			client := clients[worker%connections]
			for atomic.LoadInt32(&phase) != over {
				number := int(atomic.AddInt64(&count, 1)) * 7919 % *keys
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				start := time.Now()
				var err error
				if *op == "put" {
					_, err = client.Put(ctx, key(number), value)
				} else {
					var found *clientv3.GetResponse
					if found, err = client.Get(ctx, key(number)); err == nil && len(found.Kvs) == 0 {
						err = fmt.Errorf("%s is not there", key(number))
					}
				}
				now := time.Now()
				cancel()
				if err != nil {
					if atomic.AddInt64(&failures, 1) <= 10 {
						fmt.Fprintln(os.Stderr, err)
					}
				} else if atomic.LoadInt32(&phase) == measuring {
					taken[worker] = append(taken[worker], now.Sub(start))
				}
			}
		}(worker)
	}

	time.Sleep(time.Duration(*warmUp * float64(time.Second)))
	fmt.Println("measuring")
	before, from := ownCPU(), time.Now()
	atomic.StoreInt32(&phase, measuring)
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	atomic.StoreInt32(&phase, over)
	elapsed, spent := time.Since(from).Seconds(), ownCPU()-before
	fmt.Println("measured")
	waiting.Wait()

	var all []time.Duration
	for _, some := range taken {
		all = append(all, some...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	err := json.NewEncoder(os.Stdout).Encode(result{
		Shape: *shape, Op: *op, Answers: len(all), Errors: int(failures), Seconds: elapsed, Rate: float64(len(all)) / elapsed,
		P50: percentileMs(all, 50), P99: percentileMs(all, 99), OwnCPU: spent, Threads: runtime.GOMAXPROCS(0),
	})
	if err != nil {
		log.Fatal(err)
	}
}
