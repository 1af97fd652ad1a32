"""Every state a power failure can leave: the node starts, has all synced data, and continues (BUG-53, BUG-55).

`BARGE_DISK_STATES=50000` tries more; CI tries 5,000.
"""

import os
from collections import Counter
from copy import deepcopy
from random import Random
from threading import Lock

import pytest

from bargetrio.raft.records import Remembered
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.simulator.disk_states import crash_states
from bargetrio.storage.errors import DamagedLog
from bargetrio.storage.wal import OpenFolder
from tests.storage.logs import history, open_log

STATES = int(os.environ.get("BARGE_DISK_STATES", "5000"))
CUTS = max(12, STATES // 1000)


@pytest.mark.slow
def test_every_crash_state_boots_and_remembers() -> None:
    """Segment rolls, truncations, votes; every call of every write is the one before which the power fails."""
    tried: Counter[str] = Counter()
    seed = 0
    while tried.total() < STATES:
        seed += 1
        _try_run(seed, tried)
    assert set(tried) >= {"as synced", "all", "cut", "ends", "sectors", "nothing"}
    print(tried)


def _try_run(seed: int, tried: Counter[str]) -> None:
    random = Random(seed)
    disk = SimulatedDisk(random)
    folder = open_log(disk, segment_bytes=random.choice([600, 2048]))
    remembered = Remembered()
    for records, after in history(random, 12):
        for call in range(1, 13):
            there, writer = _copied(disk, folder)
            there.unplugged_at = there.calls + call
            try:
                writer.write(records)
            except OSError:
                for what, state in crash_states(there, random, CUTS):
                    tried[_short(what)] += 1
                    _check(state, what, remembered, after)
                continue
            break
        folder.write(records)
        remembered = after


def _copied(disk: SimulatedDisk, folder: OpenFolder) -> tuple[SimulatedDisk, OpenFolder]:
    return deepcopy((disk, folder), {id(folder._guard): Lock(), id(folder._removing): Lock()})  # locks can't be copied


def _check(disk: SimulatedDisk, what: str, before: Remembered, after: Remembered) -> None:
    try:
        opened = open_log(disk)
    except DamagedLog as problem:
        # Zeros from the middle of a sector on: sectors are written atomically, so this is damage.
        assert what.startswith("cut after"), what
        assert "damaged at byte" in str(problem) and "\n" not in str(problem)
        return
    assert opened.remembered in (before, after), what
    remembered = opened.remembered
    more = history(Random(1), 3)
    if remembered == Remembered():
        for records, expected in more:
            opened.write(records)
            remembered = expected
    opened.close()
    disk.crash()
    again = open_log(disk)
    assert again.remembered == remembered, f"{what}, then once more"
    again.close()


def _short(what: str) -> str:
    return "as synced" if what == "as synced" else what.split()[0]
