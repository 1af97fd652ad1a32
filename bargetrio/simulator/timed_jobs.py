"""A simulated server's jobs: each blocking step takes a moment of the world's time, and a crash may come between any two."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, assert_never

from bargetrio.replica.ports import Blocking, Job, JobKind, Sleep, Slice
from bargetrio.simulator.machine import Machine

STEP_S: Final = (0.0002, 0.02)
"""How long reading a piece to send takes, at least and at most."""
TRIM_S: Final = (0.0002, 0.5)
"""How long deleting files takes."""
KINDS: Final[tuple[JobKind, ...]] = ("save", "load", "drop", "send", "store", "trim", "standing")
CHANGES_FILES: Final[frozenset[JobKind]] = frozenset({"save", "store", "trim", "standing"})


class _Running:
    """A job, and the blocking step of it that is under way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.work: Callable[[], Any] | None = None


class TimedJobs:
    """The jobs of one life; implements `replica.ports.Jobs`.

    A blocking step happens at the end of its time, a slice takes none. `done(kind, result)` is called with the result of a
    blocking step, before the job goes on, `on_full(what)` with the job that a full disk ended.
    """

    def __init__(self, machine: Machine, done: Callable[[JobKind, Any], None], on_full: Callable[[str], None]) -> None:
        self.count = dict.fromkeys(KINDS, 0)
        """How many jobs of each kind are running."""
        self._machine = machine
        self._done = done
        self._on_full = on_full
        self.running: list[_Running] = []
        self._is_over = False

    def start(self, job: Job) -> None:
        """Start a job now."""
        running = _Running(job)
        self.running.append(running)
        self.count[job.kind] += 1
        self._machine.world.at(self._machine.world.now, self._go_on, running)

    def gave_up(self, what: str, again_s: float, problem: OSError) -> None:
        """Report that a full disk ended a job."""
        self._on_full(what)

    def break_off(self, *, midway: bool) -> None:
        """The process ends, if `midway` perhaps in the middle of a blocking step, between two calls of the disk."""
        self._is_over = True
        works = [running.work for running in self.running if running.work is not None and running.job.kind in CHANGES_FILES]
        random, disk = self._machine.random, self._machine.disk
        if midway and works and random.random() < 0.7:
            disk.unplugged_at = disk.calls + random.randint(1, 5)
            with suppress(OSError):
                random.choice(works)()

    def close(self) -> None:
        """End all jobs; the process has ended, and no job touches the disk any more."""
        for running in self.running:
            running.job.steps.close()

    def _go_on(self, running: _Running) -> None:
        if self._is_over or self._machine.is_paused(self._go_on, running):
            return
        job, result = running.job, None
        problem: OSError | None = None
        if running.work is not None:
            try:
                result = self._do(job.kind, running.work)
            except OSError as raised:
                problem = raised
            running.work = None
        while True:
            try:
                step = job.steps.send(result) if problem is None else job.steps.throw(problem)
            except StopIteration:
                self.running.remove(running)
                self.count[job.kind] -= 1
                return
            result = problem = None
            match step:
                case Slice():
                    pass  # here no task waits for it
                case Blocking():
                    running.work = step.work
                    self._machine.world.after(self._machine.random.uniform(*self._takes_s(job.kind)), self._go_on, running)
                    return
                case Sleep():
                    self._machine.world.after(step.seconds, self._go_on, running)
                    return
                case _:
                    assert_never(step)

    def _do(self, kind: JobKind, work: Callable[[], Any]) -> Any:
        """Do a blocking step. DamagedSnapshot ends the seed: a file that is loaded was whole, and no fault damages one."""
        disk = self._machine.disk
        if kind == "send" and self._machine.readable:
            with disk.ending_early(self._machine.readable):
                result = work()
        else:
            result = work()
        self._done(kind, result)
        return result

    def _takes_s(self, kind: JobKind) -> tuple[float, float]:
        match kind:
            case "save":
                return self._machine.save_s
            case "store" | "load" | "drop":
                return self._machine.piece_s
            case "send":
                return STEP_S
            case "trim":
                return TRIM_S
            case "standing":
                return self._machine.disk_s
            case _:
                assert_never(kind)
