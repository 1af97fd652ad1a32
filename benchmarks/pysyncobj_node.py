"""One node of a PySyncObj cluster: a replicated dict with a journal, driven from inside its leader.

    python benchmarks/pysyncobj_node.py FOLDER OWN_ADDRESS PARTNER_ADDRESS...

PySyncObj is a library and has no port for clients, so the load is made in the leader's own process: each outcome, told in its
callback, begins the next put. That is less work than any client over a socket makes. Reads a command a line from stdin (`who`, or
`put OUTSTANDING WARM_UP SECONDS PID...`, where
the processes named are those whose cost is told), answers with a line of JSON.

Its settings are its own but for these, which are in its favour: it ticks whenever there is something to do, not every 50 ms, and
in a folder called batch-N it sends what has gathered every 5 ms (100 ms are its own), in any other each command at once.
"""

import json
import queue
import sys
import threading
import time
from array import array
from functools import partial
from pathlib import Path
from typing import Any

from load import percentile_ms
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated  # type: ignore[import-untyped]
from usage import Meter

KEYS = 10_000
VALUE = "v" * 64


class Store(SyncObj):  # type: ignore[misc]
    """The dict."""

    def __init__(self, folder: Path, own: str, partners: list[str], *, batch: bool) -> None:
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=batch,
            appendEntriesPeriod=0.005,
            journalFile=str(folder / "journal"),
            fullDumpFile=str(folder / "dump"),
        )
        super().__init__(own, partners, conf)
        self.values: dict[str, str] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: str) -> None:
        """Keep it."""
        self.values[key] = value


class Load:
    """So many puts that always wait for their outcome."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._count = 0
        self._goes_on = True
        self.errors = 0
        self.latencies = array("d")

    def issue(self) -> None:
        """Begin one."""
        self._count += 1
        done = partial(self._done, time.perf_counter())
        self._store.put(f"key{self._count * 7919 % KEYS:09d}", VALUE, callback=done)

    def _done(self, began: float, _result: object, reason: int) -> None:
        self.latencies.append(time.perf_counter() - began)
        self.errors += reason != FAIL_REASON.SUCCESS
        if self._goes_on:
            self.issue()

    def run(self, outstanding: int, warm_up: float, seconds: float, pids: list[int]) -> dict[str, Any]:
        """Warm up, measure."""
        for _ in range(outstanding):
            self.issue()
        self._tick_for(warm_up)
        self.latencies = array("d")
        meter = Meter(pids)
        self._tick_for(seconds)
        cost = meter.read()
        ordered = sorted(self.latencies)
        self._goes_on = False
        self._tick_for(1)
        return {
            "rate": len(ordered) / cost.seconds,
            "answers": len(ordered),
            "p50_ms": percentile_ms(ordered, 50),
            "p99_ms": percentile_ms(ordered, 99),
            "errors": self.errors,
            "cpu_s": cost.cpu_s,
            "peak_mib": cost.peak_mib,
        }

    def _tick_for(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._store.doTick(0.001)


def _listen(commands: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        commands.put(line)


def main() -> None:
    """Tick, and do what is asked."""
    folder, own, *partners = sys.argv[1:]
    Path(folder).mkdir()
    batch = Path(folder).name.startswith("batch")
    store = Store(Path(folder), own, partners, batch=batch)
    commands: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=[commands], daemon=True).start()
    while True:
        store.doTick(0.005)
        try:
            name, *numbers = commands.get_nowait().split()
        except queue.Empty:
            continue
        if name == "who":
            found: Any = {"leads": store._isLeader() and store.isReady()}
        else:
            found = Load(store).run(int(numbers[0]), float(numbers[1]), float(numbers[2]), [int(pid) for pid in numbers[3:]])
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
