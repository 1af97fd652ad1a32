"""Real processes, real disks, real connections, real faults; judged by what the clients saw and by what the daemons recorded.

Two campaigns of a minute in CI; `BARGE_CAMPAIGN_S=600 pytest --long tests/campaign` makes longer ones,
`BARGE_CAMPAIGN_SEED` others.
"""

import os
import time
from pathlib import Path
from random import Random

import pytest

from bargetrio.eventlog.jsonl import read_events
from bargetrio.simulator.audit import Audit
from bargetrio.simulator.linearizability import Operation, check
from tests.campaign.cluster import Cluster, Faults
from tests.campaign.workers import KEYS, Worker

SECONDS = float(os.environ.get("BARGE_CAMPAIGN_S", "60"))
SEED = int(os.environ.get("BARGE_CAMPAIGN_SEED", "1"))
WORKERS = 8


@pytest.mark.long
@pytest.mark.parametrize("apart", [False, True], ids=["one daemon", "one daemon per node"])
def test_what_clients_saw_is_linearizable_whatever_happened(apart: bool, tmp_path: Path) -> None:
    """kill -9, SIGSTOP, restarts, cut and slow links, failing disks; at least 100 operations a second."""
    cluster = Cluster(tmp_path, apart=apart)
    workers: list[Worker] = []
    faults = Faults(cluster, SEED)
    try:
        cluster.start_all()
        workers = [Worker(number, WORKERS, cluster.addresses, cluster.apis, SEED) for number in range(WORKERS)]
        began = time.monotonic()
        for worker in workers:
            worker.start()
        random = Random(f"{SEED}/pauses")
        while time.monotonic() < began + SECONDS:
            faults.make_one()
            time.sleep(random.uniform(0.2, 1.5))
        cluster.heal()
        time.sleep(1)
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join(15)
            assert not worker.is_alive()
            assert worker.problem is None, worker.problem
        seconds = time.monotonic() - began
        history = [operation for worker in workers for operation in worker.operations]
        history += _read_everything(cluster)
    finally:
        for worker in workers:
            worker.stop()
        cluster.end()
    unknown = sum(operation.effect == "unknown" for operation in history)
    print(f"{len(history) / seconds:.0f} operations/s, {len(history)} in all, {unknown} unknown; {dict(faults.made)}")
    assert len(history) / seconds >= 100
    assert unknown < len(history) / 10
    verdict = check(history)
    assert verdict.ok, verdict.reason
    audit = Audit()
    for path in cluster.events_files:
        if not path.exists():
            continue  # that life was killed before it began
        audit.begin_file()
        finding = audit.take_all(read_events(path, audit.missed))
        assert finding is None, f"{path.name}: {finding.describe()}"
    assert len(audit.leaders) > 1


def _read_everything(cluster: Cluster) -> list[Operation]:
    """Read every key at the end: what was acknowledged must be there."""
    reader = Worker(WORKERS, WORKERS, cluster.addresses, cluster.apis, SEED)
    for key in KEYS:
        for _ in range(3):
            if reader.ask(key, 0.0):
                break
    assert len(reader.operations) == len(KEYS)
    return reader.operations
