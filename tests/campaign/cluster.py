"""A real cluster behind proxies: one daemon for all nodes, or one per node; and the faults that hit it."""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from bargetrio.cli.free_ports import free_ports
from tests.campaign.proxy import Proxy
from tests.stories.daemon import TIMING, Daemon

SIZE = 3


class Cluster:
    """Daemons and proxies; `events_files` are written by every life of every daemon."""

    def __init__(self, folder: Path, *, apart: bool, extra: str = "", timing: str = TIMING) -> None:
        ports = free_ports(3 * SIZE + 1)
        self.apart = apart
        self.addresses = [f"127.0.0.1:{ports[1 + 3 * node_id]}" for node_id in range(SIZE)]
        self.apis = [f"127.0.0.1:{ports[3 + 3 * node_id]}" for node_id in range(SIZE)] if apart else [f"127.0.0.1:{ports[0]}"]
        lines = ["cluster: barge", f"api: 127.0.0.1:{ports[0]}", "data_dir: data", f"timing: {timing}", "nodes:"]
        for node_id in range(SIZE):
            address, listen, api = ports[1 + 3 * node_id : 4 + 3 * node_id]
            where = f"address: 127.0.0.1:{address}, listen: 127.0.0.1:{listen}, api: 127.0.0.1:{api}"
            lines.append(f"  - {{id: {node_id}, {where}}}")
        configuration = folder / "configuration.yml"
        configuration.write_text("\n".join(lines) + "\n" + extra)
        self.proxies = [Proxy(node_id, ports[1 + 3 * node_id], ports[2 + 3 * node_id]) for node_id in range(SIZE)]
        self.daemons = [Daemon(configuration, node_id=node_id) for node_id in range(SIZE)] if apart else [Daemon(configuration)]
        self.events_files: list[Path] = []
        self._folder = folder

    def start(self, daemon: Daemon, *, wait: bool = False) -> None:
        """Start a daemon; its events go to a file of this life's own."""
        path = self._folder / f"events-{len(self.events_files)}.jsonl"
        self.events_files.append(path)
        while "--events" in daemon.arguments:
            place = daemon.arguments.index("--events")
            del daemon.arguments[place : place + 2]
        daemon.arguments += ["--events", str(path)]
        daemon.start(wait=wait)

    def start_all(self) -> None:
        """Start the nodes that do not run, and wait for a leader."""
        for daemon in self.daemons:
            if daemon.process is None or daemon.process.poll() is not None:
                self.start(daemon)
        for daemon in self.daemons:
            daemon.wait_until_live()
        self.daemons[0].leader()

    def end(self) -> None:
        """End everything, whatever happened."""
        for daemon in self.daemons:
            daemon.end()
        for proxy in self.proxies:
            proxy.close()

    def narrow(self, bytes_s: float) -> None:
        """Give every link from one node to another this bandwidth."""
        for proxy in self.proxies:
            proxy.bytes_s = dict.fromkeys(range(SIZE), bytes_s)

    def heal(self) -> None:
        """Mend links and disks, wake and start everybody."""
        for proxy in self.proxies:
            proxy.cut_from(set())
            proxy.delay_s = {}
            proxy.bytes_s = {}
        for daemon in self.daemons:
            if daemon.process is not None and daemon.process.poll() is None:
                os.kill(daemon.process.pid, signal.SIGCONT)
        self.start_all()
        if not self.apart:
            daemon = self.daemons[0]
            daemon.http("DELETE", "/faults")
            for node_id in range(SIZE):
                daemon.revive_node(node_id)


class Faults:
    """Draws and makes faults, one after another; each ends by itself."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.made: Counter[str] = Counter()
        self._cluster = cluster
        self._random = Random(f"{seed}/faults")

    def make_one(self) -> None:
        """Make one fault and wait until it is over."""
        cluster, random = self._cluster, self._random
        kinds: list[Callable[[], None]] = [self.kill_9, self.stand_still, self.cut, self.delay, self.partition, self.kill_all]
        if not cluster.apart:
            kinds += [self.kill_node, self.kill_node, self.slow_disk, self.fail_disk]
        kind = random.choice(kinds)
        self.made[kind.__name__] += 1
        kind()

    def _any(self) -> Daemon:
        return self._random.choice(self._cluster.daemons)

    def _wait(self, least: float, most: float) -> None:
        time.sleep(self._random.uniform(least, most))

    def kill_9(self) -> None:
        """A daemon is killed by SIGKILL and started again."""
        daemon = self._any()
        daemon.kill_9()
        self._wait(0.05, 1.5)
        self._cluster.start(daemon)

    def kill_all(self) -> None:
        """All of them."""
        for daemon in self._cluster.daemons:
            daemon.kill_9()
        self._wait(0.0, 0.3)
        self._cluster.start_all()

    def stand_still(self) -> None:
        """SIGSTOP, SIGCONT."""
        daemon = self._any()
        assert daemon.process is not None
        os.kill(daemon.process.pid, signal.SIGSTOP)
        self._wait(0.2, 2.0)
        os.kill(daemon.process.pid, signal.SIGCONT)

    def cut(self) -> None:
        """Some links are cut in one direction."""
        for proxy in self._cluster.proxies:
            proxy.cut_from({node_id for node_id in range(SIZE) if self._random.random() < 0.4})
        self._wait(0.5, 2.5)
        self._mend()

    def partition(self) -> None:
        """One node is alone."""
        alone = self._random.randrange(SIZE)
        for node_id, proxy in enumerate(self._cluster.proxies):
            proxy.cut_from(set(range(SIZE)) - {alone} if node_id == alone else {alone})
        self._wait(0.5, 2.5)
        self._mend()

    def delay(self) -> None:
        """Some links are slow in one direction."""
        for proxy in self._cluster.proxies:
            proxy.delay_s = {node_id: self._random.uniform(0, 0.3) for node_id in range(SIZE) if self._random.random() < 0.5}
        self._wait(0.5, 2.0)
        for proxy in self._cluster.proxies:
            proxy.delay_s = {}

    def kill_node(self) -> None:
        """A node is killed and revived by REST."""
        node_id, daemon = self._random.randrange(SIZE), self._cluster.daemons[0].wait_until_live()
        daemon.kill_node(node_id)
        self._wait(0.1, 1.5)
        daemon.revive_node(node_id)

    def slow_disk(self) -> None:
        """A disk is slow."""
        self._disk({"delay_ms": self._random.uniform(20, 300)})

    def fail_disk(self) -> None:
        """A disk fails: its node stops, and is revived when the disk is well."""
        node_id = self._disk({"error": "EIO"})
        self._cluster.daemons[0].revive_node(node_id)

    def _disk(self, fault: dict[str, object]) -> int:
        node_id, daemon = self._random.randrange(SIZE), self._cluster.daemons[0].wait_until_live()
        daemon.http("PUT", "/faults", json.dumps({"disks": [{"node": node_id, **fault}]}), {"Content-Type": "application/json"})
        self._wait(0.3, 1.5)
        with contextlib.suppress(OSError):
            daemon.http("DELETE", "/faults")
        return node_id

    def _mend(self) -> None:
        for proxy in self._cluster.proxies:
            proxy.cut_from(set())
