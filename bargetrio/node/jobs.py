"""Runs a replica's jobs as tasks: blocking steps in threads, slices in the loop, limited to a share of its time."""

import logging
from contextlib import closing
from typing import Final, assert_never

import trio

from bargetrio.node.disk_work import DiskWork
from bargetrio.node.pace import LOADING_SHARE, SAVING_SHARE, Pace
from bargetrio.replica.ports import Blocking, Job, JobKind, Sleep, Slice

log = logging.getLogger(__name__)

SHARES: Final[dict[JobKind, float]] = {"save": SAVING_SHARE, "load": LOADING_SHARE, "drop": LOADING_SHARE}
"""How much of the loop's time the slices of a job may take, by its kind; others have none."""


class NurseryJobs:
    """Each job is a task of `nursery`; implements `replica.ports.Jobs`. Cancelled, a job ends after its blocking step."""

    def __init__(self, nursery: trio.Nursery, work: DiskWork) -> None:
        self._nursery = nursery
        self._work = work

    def start(self, job: Job) -> None:
        """Start a task."""
        self._nursery.start_soon(self._run, job)

    def gave_up(self, what: str, again_s: float, problem: OSError) -> None:
        """Log it."""
        log.warning("%s is given up, and taken again in %.0f s at the earliest: %s", what, again_s, problem.strerror or problem)

    async def _run(self, job: Job) -> None:
        pace = Pace(SHARES.get(job.kind, 1.0), job.store)
        result: object = None
        problem: Exception | None = None
        with closing(job.steps) as steps:
            while True:
                try:
                    with pace:
                        step = steps.send(result) if problem is None else steps.throw(problem)
                except StopIteration:
                    return
                result = problem = None
                match step:
                    case Slice():
                        await pace.rest()
                    case Blocking():
                        try:
                            result = await self._work.call(step.work)
                        except Exception as raised:  # handled by the job
                            problem = raised
                    case Sleep():
                        await trio.sleep(step.seconds)
                    case _:
                        assert_never(step)
