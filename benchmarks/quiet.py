"""`bargetrio`, but its recorder drops every event: what the event log costs is the difference.

The facts themselves are still made, since nodes count by them; what is saved is numbering, stamping, previews and keeping.
"""

from bargetrio import cli
from bargetrio.daemon import run
from bargetrio.eventlog.host_facts import HostFact
from bargetrio.eventlog.recorder import Recorder
from bargetrio.raft.facts import Fact


class Dropping(Recorder):
    """Keeps nothing."""

    def record(self, node_id: int | None, fact: Fact | HostFact) -> None:
        """Drop it."""

    def stage(self, node_id: int | None, fact: Fact | HostFact) -> None:
        """Drop it."""


if __name__ == "__main__":
    setattr(run, "Recorder", Dropping)  # noqa: B010
    cli.main()
