"""A process for each node, as on hosts of their own, and what their probes say."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stories.daemon import TIMING, Daemon, write_configuration


@contextmanager
def daemons(folder: Path, size: int, timing: str = TIMING) -> Iterator[list[Daemon]]:
    """A process for each node; none of them runs yet."""
    configuration = write_configuration(folder, size, timing=timing)
    found = [Daemon(configuration, node_id=node_id) for node_id in range(size)]
    try:
        yield found
    finally:
        for daemon in found:
            daemon.end()


def readiness(daemon: Daemon) -> str:
    """Return why the daemon is not ready, "" if it is."""
    answer = daemon.http("GET", "/readyz")
    return "" if answer.status == 200 else str(answer.json["detail"])


def wait_for_reason(daemon: Daemon, reason: str) -> None:
    """Return when the daemon is not ready for this reason."""
    daemon.wait_for(lambda: reason in readiness(daemon), reason, 10)


def wait_until_ready(daemon: Daemon) -> None:
    """Return when the daemon is ready."""
    daemon.wait_for(lambda: readiness(daemon) == "", "its readiness", 20)
