"""Clients of a campaign: threads that write, read and compare-and-set ten keys and record the outcomes."""

import threading
import time
from random import Random

from bargetrio.client.client import Client
from bargetrio.protocol.errors import BargeError
from bargetrio.simulator.linearizability import Operation

KEYS = tuple(f"k{number}" for number in range(10))
PAUSE_S = 0.02


class Worker(threading.Thread):
    """One client; `operations` is what it saw, `refused` how many requests certainly had no effect."""

    def __init__(self, number: int, workers: int, addresses: list[str], apis: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self.operations: list[Operation] = []
        self.refused = 0
        self.problem: BaseException | None = None
        self._process = number
        self._number = number
        self._workers = workers
        self._random = Random(f"{seed}/{number}")
        self._client = Client(addresses, cluster="barge", apis=apis, timeout_s=3.0)
        self._known: dict[str, int] = {}
        self._writes = 0
        self._ended = threading.Event()

    def stop(self) -> None:
        """Let it end after its present request."""
        self._ended.set()

    def run(self) -> None:
        """Ask until stopped."""
        try:
            while not self._ended.is_set():
                self.ask(self._random.choice(KEYS), self._random.random())
                time.sleep(self._random.expovariate(1 / PAUSE_S))
        except BaseException as problem:  # told by the campaign
            self.problem = problem
        finally:
            self._client.close()

    def ask(self, key: str, what: float) -> bool:
        """Make one request, drawn by `what` (below 0.4 a read); return whether it was answered."""
        self._writes += what >= 0.4
        value = f"{self._number}.{self._writes}"
        if_index = self._known.get(key, 0) if 0.7 <= what < 0.88 or what >= 0.97 else None
        if_absent = 0.88 <= what < 0.93
        kind = "get" if what < 0.4 else "put" if what < 0.93 else "delete"
        told: dict[str, object] = {"effect": "applied", "value": value if kind == "put" else None}
        called = time.monotonic()
        try:
            if kind == "get":
                found = self._client.get(key)
                told |= {"value": found.value, "index": found.index}
                self._known[key] = found.index
            elif kind == "put":
                written = self._client.put(key, value, if_index=if_index, if_absent=if_absent)
                told |= {"index": written.index}
                self._known[key] = written.index
            else:
                removed = self._client.delete(key, if_index=if_index)
                told |= {"index": removed.index, "deleted": removed.deleted}
                self._known[key] = 0
        except BargeError as error:
            if error.code == "precondition_failed":
                told |= {"effect": "refused"}
            elif error.applied is None:
                told |= {"effect": "unknown"}
            else:
                self.refused += 1
                return False
        unknown = told["effect"] == "unknown"
        if unknown and kind == "get":
            return False
        fields = {
            "process": self._process,
            "kind": kind,
            "key": key,
            "called": called,
            "if_index": if_index,
            "if_absent": if_absent,
        }
        self.operations.append(Operation(ended=None if unknown else time.monotonic(), **fields, **told))  # type: ignore[arg-type]
        if unknown:
            self._process += self._workers
        return not unknown
