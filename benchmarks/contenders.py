"""The systems that compare.py measures: what each one needs, keeps and can do, and how it is started and loaded."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peers
import sync_count
from drive import (
    Measured,
    by_bulk,
    by_etcd_load,
    by_load,
    by_nats_load,
    by_redis_benchmark,
    by_wrk,
    connections_of,
    fill,
    pysyncobj,
    script_for,
)
from load import addresses_of, find_leader
from systems import Barge, Running, antietcd, barge, etcd, nats, redis

ETCD, ETCD_GRPC = "etcd 3.4, gateway", "etcd 3.4, gRPC"
NEW_ETCD, NEW_ETCD_GRPC = "etcd 3.5, gateway", "etcd 3.5, gRPC"
ETCDS = (ETCD, ETCD_GRPC, NEW_ETCD, NEW_ETCD_GRPC)
NATS, NATS_LATE = "NATS, sync always", "NATS, as it comes (syncs every 2 min)"
ANTIETCD, PYSYNCOBJ, REDIS = "antietcd", "PySyncObj", "redis"
ONE, APART = "Barge, one process", "Barge, one each"
BY_REST = "Barge, one key at a time by REST"
SYSTEMS = (*ETCDS, NATS, NATS_LATE, ANTIETCD, PYSYNCOBJ, REDIS, ONE, APART)
NEEDS: dict[str, tuple[Callable[[], object], ...]] = {
    ETCD: (lambda: peers.etcd_program("3.4"), lambda: peers.program("wrk")),
    ETCD_GRPC: (lambda: peers.etcd_program("3.4"), peers.etcd_load),
    NEW_ETCD: (lambda: peers.etcd_program("3.5"), lambda: peers.program("wrk")),
    NEW_ETCD_GRPC: (lambda: peers.etcd_program("3.5"), peers.etcd_load),
    NATS: (lambda: peers.program("nats-server"),),
    NATS_LATE: (lambda: peers.program("nats-server"),),
    ANTIETCD: (peers.antietcd_command, lambda: peers.program("wrk")),
    PYSYNCOBJ: (peers.pysyncobj,),
    REDIS: (lambda: peers.program("redis-server"), lambda: peers.program("redis-benchmark")),
    BY_REST: (lambda: peers.program("wrk"),),
}
"""What finds the programs of a system, or raises peers.Missing."""
REST_PUT = "REST put, 64 connections"
REST_OPS = ("rest put", "rest get", "rest mixed")


@dataclass(frozen=True)
class Work:
    """A kind of load: what Barge must reach beside the system in `beside`, in one process and in one a node.

    It is compared with the same work of that system, or with `beside_work`.
    """

    name: str
    op: str
    shape: str
    asked: tuple[float | None, float | None]
    field: str = "rate"
    beside: str = ETCD
    beside_work: str = ""

    def is_reached(self, ratio: float, bound: float) -> bool:
        """Return whether the ratio is good enough: a rate at least, a latency at most so many times as much."""
        return ratio <= bound if self.field == "p50_ms" else ratio >= bound

    def words(self, bound: float) -> str:
        """Return the bound for the table, and beside what, where that is not this work by etcd."""
        other = ", ".join(name for name in (self.beside if self.beside != ETCD else "", self.beside_work) if name)
        return (f"p50 ≤ {bound:g} ×" if self.field == "p50_ms" else f"≥ {bound:g} ×") + (f" of {other}" if other else "")


WORKS = (
    Work("put 1x1", "put", "1x1", (0.75, 0.75), field="p50_ms"),
    Work("put 1x64", "put", "1x64", (4.5, 5)),
    Work("put 256x1", "put", "256x1", (1.5, 1.8)),
    Work("put 100x10", "put", "100x10", (5.5, 6.5)),
    Work("get 1x64", "get", "1x64", (6, 6)),
    Work("get 256x1", "get", "256x1", (1.5, 1.8)),
    Work("bulk put over REST", "bulk", "", (4, None), beside="etcd's best put"),
    Work(REST_PUT, "rest put", "64x1", (2.5, 2.5)),
    Work("REST put, 256 connections", "rest put", "256x1", (2, 2)),
    Work("REST put, 1 connection", "rest put", "1x1", (0.8, 0.8), field="p50_ms"),
    Work("REST get, 64 connections", "rest get", "64x1", (3, 3)),
    Work("REST get, 1 connection", "rest get", "1x1", (0.6, 0.6), field="p50_ms"),
    Work(f"{REST_PUT}, a tenth for another route", "rest mixed", "64x1", (1.5, None)),
    Work(f"{REST_PUT}, at a follower", "rest put at a follower", "64x1", (None, 0.6), beside=APART, beside_work=REST_PUT),
)
KEEPS = {
    ETCD: ("three copies", "JSON gateway, wrk"),
    ETCD_GRPC: ("three copies", "gRPC, its own Go client"),
    NEW_ETCD: ("three copies", "JSON gateway, wrk"),
    NEW_ETCD_GRPC: ("three copies", "gRPC, its own Go client"),
    NATS: ("three copies, `sync_interval: always`", "NATS's protocol, nats_load.py"),
    NATS_LATE: ("three copies, its own setting: what was answered in the last two minutes may be lost", "as above"),
    ANTIETCD: ("three copies, each put a new file of the whole database", "etcd's JSON gateway, wrk"),
    PYSYNCOBJ: ("three journals, mapped into memory: lost with the power", "inside its leader"),
    REDIS: ("one copy, `appendfsync always`", "redis-benchmark"),
    ONE: ("three copies", "client protocol, load.py; REST, wrk"),
    APART: ("three copies", "client protocol, load.py; REST, wrk"),
}
"""What each system keeps, and by which interface and generator it is loaded."""

CAN = {
    **dict.fromkeys((ETCD, NEW_ETCD), ("put", "get", *REST_OPS)),
    **dict.fromkeys((ETCD_GRPC, NEW_ETCD_GRPC), ("put", "get", "rest put", "rest get")),
    **dict.fromkeys((NATS, NATS_LATE, PYSYNCOBJ), ("put",)),
    ONE: ("put", "get", "bulk", *REST_OPS),
    APART: ("put", "get", *REST_OPS, "rest put at a follower"),
}
"""What a system does, where that is not puts and gets."""

SLOW_SHAPES = ("256x1", "100x10")
"""Not for antietcd's puts: it writes its database for each one, and requests would wait longer than wrk does."""

Figures = dict[tuple[str, str], list[Measured]]


@dataclass(frozen=True)
class Loaded:
    """A system that runs: what does a work, its processes, what does so many puts one by one; `syncs` is Barge's own count."""

    do: Callable[[Work], Measured]
    pids: list[int]
    put: Callable[[int], int] | None = None
    syncs: Callable[[], list[float]] | None = None


def left_out(systems: Iterable[str]) -> dict[str, str]:
    """Return what is not installed for each system that cannot be measured."""
    missing = {}
    for system in systems:
        try:
            for find in NEEDS.get(system, ()):
                find()
        except peers.Missing as problem:
            missing[system] = str(problem)
    return missing


def knows(system: str, work: Work) -> bool:
    """Return whether the system can do the work; NATS and PySyncObj answer reads by one member alone: they have no gets here."""
    if system == ANTIETCD:
        return work.op == "get" or (work.op == "put" and work.shape not in SLOW_SHAPES)
    return work.op in CAN.get(system, ("put", "get"))


class Round:
    """One round: every system once, in a folder of its own."""

    def __init__(self, folder: Path, seconds: int, works: tuple[Work, ...], outstanding: list[int]) -> None:
        self._folder = folder
        self._seconds = seconds
        self._works = works
        self._outstanding = outstanding

    def run(self, system: str, figures: Figures, seen: dict[str, str]) -> None:
        """Start the system, and do every work it knows; then count its syncs, if that was not done."""
        works = [work for work in self._works if knows(system, work)]
        if not works:
            return
        with self._started(system) as loaded:
            for work in works:
                figures.setdefault((work.name, system), []).append(loaded.do(work))
            if system not in seen and loaded.put is not None:
                seen[system] = syncs_of(loaded, loaded.put)

    @contextmanager
    def _started(self, system: str) -> Iterator[Loaded]:
        folder, seconds = self._folder / "".join(letter for letter in system if letter.isalnum()), self._seconds
        if system in ETCDS:
            with etcd(folder, peers.etcd_program("3.4" if system in (ETCD, ETCD_GRPC) else "3.5")) as running:
                yield self._etcd(running, peers.etcd_load() if system in (ETCD_GRPC, NEW_ETCD_GRPC) else None)
        elif system == ANTIETCD:
            with antietcd(folder, peers.antietcd_command()) as running:
                yield self._etcd(running, None)
        elif system in (NATS, NATS_LATE):
            with nats(folder, peers.program("nats-server"), sync_always=system == NATS) as running:
                yield Loaded(
                    lambda work: by_nats_load(running, work.shape, seconds),
                    running.pids,
                    lambda count: sync_count.put_by_nats(running, count),
                )
        elif system == PYSYNCOBJ:  # each at its better setting
            with pysyncobj(folder, batch=True) as many, pysyncobj(folder.with_name("pysyncobj-single"), batch=False) as single:
                yield Loaded(
                    lambda work: (single if work.shape == "1x1" else many).load(work.shape, seconds),
                    single.pids,
                    lambda _: single.put_for(1),
                )
        elif system == REDIS:
            with redis(folder) as running:
                yield Loaded(
                    lambda work: by_redis_benchmark(running, work.op, work.shape, seconds),
                    running.pids,
                    lambda count: sync_count.put_by_redis(running, count),
                )
        else:
            with self._barge(folder, apart=system == APART) as loaded:
                yield loaded

    def _etcd(self, running: Running, grpc: str | None) -> Loaded:
        """Load etcd, or what has its gateway, by wrk; or by gRPC with the generator given."""
        is_filled = False

        def do(work: Work) -> Measured:
            nonlocal is_filled
            op = work.op.removeprefix("rest ")
            if grpc is not None:
                return by_etcd_load(running, grpc, op, work.shape, self._seconds)
            if op == "get" and not is_filled:  # every key is there before the first get
                fill(running)
                is_filled = True
            script = script_for(self._folder, f"etcd {op}")
            return by_wrk(running, script, connections_of(work.shape), self._seconds)

        return Loaded(do, running.pids, lambda count: sync_count.put_by_etcd(running, count))

    @contextmanager
    def _barge(self, folder: Path, *, apart: bool) -> Iterator[Loaded]:
        with barge(folder, apart=apart) as running:
            pids, configuration, seconds = running.pids, ["--config", str(running.configuration)], self._seconds

            def do(work: Work) -> Measured:
                if work.op == "bulk":
                    measured, outstanding = by_bulk(running, seconds)
                    self._outstanding.append(outstanding)
                    return measured
                if work.op.startswith("rest "):
                    rest = rest_of(running, at_follower=work.op.endswith("at a follower"))
                    script = script_for(self._folder, work.op.removesuffix(" at a follower"))
                    return by_wrk(rest, script, connections_of(work.shape), seconds)
                return by_load(configuration, pids, work.op, work.shape, seconds)

            def put(count: int) -> int:
                cluster, addresses = addresses_of(running.configuration)
                return sync_count.put_by_barge(find_leader(addresses, cluster), count)

            by_load(configuration, pids, "put", "1x64", 0.5)  # every key is there before the first get
            yield Loaded(do, pids, put, lambda: sync_count.barge_syncs(running))


def rest_of(running: Barge, *, at_follower: bool) -> Running:
    """Return REST of the leader's daemon, or of a follower's; in one process they are the same."""
    cluster, addresses = addresses_of(running.configuration)
    leader = addresses.index(find_leader(addresses, cluster))
    return Running(running.apis[(leader + at_follower) % len(running.apis)], running.pids)


def syncs_of(loaded: Loaded, put: Callable[[int], int]) -> str:
    """Return how often the system was seen to sync for a put, in words for the table."""
    if loaded.syncs is None:
        return sync_count.count_syncs(loaded.pids, put)
    before = loaded.syncs()
    puts = put(sync_count.PUTS)
    words = sync_count.metric_words(before, loaded.syncs(), puts)
    return f"{sync_count.count_syncs(loaded.pids, put)}; {words}"
