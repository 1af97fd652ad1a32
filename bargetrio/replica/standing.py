"""Writes a replica's standing (raft/standing.py) to its folder, one write at a time."""

from collections import deque

from bargetrio.raft.effects import ReplaceStore, WriteStanding
from bargetrio.raft.standing import Standing
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.ports import Job, Jobs, Outbox, Steps, blocking
from bargetrio.storage.wal import OpenFolder


class StandingWriter:
    """Writes standings in their order."""

    def __init__(self, folder: OpenFolder, inbox: Inbox, outbox: Outbox, jobs: Jobs) -> None:
        self._folder = folder
        self._inbox = inbox
        self._outbox = outbox
        self._jobs = jobs
        self._to_write: deque[WriteStanding | ReplaceStore] = deque()
        self._is_writing = False

    def write(self, effect: WriteStanding | ReplaceStore) -> None:
        """Write and sync in a job; then report it to the core."""
        self._to_write.append(effect)
        if not self._is_writing:
            self._is_writing = True
            self._jobs.start(Job("standing", self._write_all()))

    def _write_all(self) -> Steps:
        try:
            while self._to_write:
                yield from self._write(self._to_write.popleft())
        except OSError as problem:
            self._inbox.disk_failed(problem)
        finally:
            self._is_writing = False

    def _write(self, effect: WriteStanding | ReplaceStore) -> Steps:
        folder = self._folder

        def work() -> Standing:
            if isinstance(effect, ReplaceStore):
                return folder.replace_store()
            folder.write_standing(effect.standing)
            return effect.standing

        standing = yield from blocking(work)
        if isinstance(effect, ReplaceStore):
            self._outbox.redial()
        self._inbox.call(lambda core, now: core.standing_written(standing, now))
