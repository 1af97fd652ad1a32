"""The first files of a folder: after a crash at any time everything reported is there, including the parent folders."""

from copy import deepcopy
from random import Random
from threading import Lock

import pytest
from msgspec import structs

from bargetrio.raft.records import Append, HardState, Install, Record
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.simulator.disk_states import crash_states
from bargetrio.storage.snapshots import SnapshotReceiver, snapshot_labels
from bargetrio.storage.wal import OpenFolder
from tests.storage.logs import append, entry, file_of, open_log, save, send

LOG = [entry(1, f"e{index}") for index in range(1, 9)]
FIRST: list[Record] = [HardState(term=1, voted_for=1), append([], *LOG)]


def states_of(disk: SimulatedDisk) -> list[SimulatedDisk]:
    """The states that a power failure can leave now: all of a few, and some at random."""
    drawn = []
    for seed in range(8):
        there = deepcopy(disk)
        there.reseed(seed)
        there.crash()
        drawn.append(there)
    return [state for _, state in crash_states(disk, Random(1), 0)] + drawn


def copied(disk: SimulatedDisk, folder: OpenFolder) -> tuple[SimulatedDisk, OpenFolder]:
    """The same once more."""
    return deepcopy((disk, folder), {id(folder._guard): Lock(), id(folder._removing): Lock()})


def test_the_first_start_leaves_a_folder_or_nothing() -> None:
    """Whatever call the power fails before; the reported store id is the same after the restart."""
    calls = 0
    while True:
        calls += 1
        disk = SimulatedDisk(Random(1))
        disk.unplugged_at = calls
        try:
            told = open_log(disk).standing.store
        except Exception:
            told = ""
        for state in states_of(disk):
            folder = open_log(state)
            assert folder.remembered.hard_state == HardState()
            assert not told or folder.standing.store == told
            folder.close()
        if told:
            break
    assert calls > 10


def test_the_first_write_lasts() -> None:
    """With the segment it stands in, and the folder of that."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    folder.write(FIRST)
    for state in states_of(disk):
        remembered = open_log(state).remembered
        assert (remembered.hard_state, remembered.entries) == (FIRST[0], tuple(LOG))


def test_the_first_standing_lasts() -> None:
    """The birth set, and a new store id that replaces it: reported when they are written."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    born = structs.replace(folder.standing, identity="i", birth={0: folder.standing.store, 1: "s1", 2: "s2"})
    folder.write_standing(born)
    for state in states_of(disk):
        assert open_log(state).standing == born
    replaced = folder.replace_store()
    for state in states_of(disk):
        assert open_log(state).standing == replaced


@pytest.mark.parametrize("received", [False, True])
def test_the_first_snapshot_lasts_when_the_log_is_cut_for_it(received: bool) -> None:
    """Its file, its name and its folder: the log before it is deleted as soon as it is reported (BUG-52)."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk, segment_bytes=300)
    for count, new in enumerate(LOG):
        folder.write([append(LOG[:count], new)])
    behind = [*LOG, entry(2, "behind")]
    for call in range(1, 200):
        there, writer = copied(disk, folder)
        there.unplugged_at = there.calls + call
        done = False
        try:
            if received:
                snapshot, data = file_of(behind)
                send(SnapshotReceiver(there, "barge"), data, snapshot)
                writer.write([Install(snapshot=snapshot)])
            else:
                save(there, LOG)
                writer.trim(9, {8})
            done = True
        except OSError:
            pass
        for state in states_of(there):
            remembered = open_log(state).remembered
            last = remembered.start.index + len(remembered.entries)
            assert last == 9 if received and done else last in (8, 9), f"before call {call}"
            assert not done or snapshot_labels(state), f"before call {call}"
        if done:
            break
    assert done and call > 5


def test_a_store_is_as_old_as_its_log() -> None:
    """No crash leaves a segment without the file `meta`: a new store would begin over an old log."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    folder.write([HardState(term=1), Append(first_index=1, digest=append([], LOG[0]).digest, entries=(LOG[0],))])
    for state in states_of(disk):
        assert state.exists("meta")
        assert open_log(state).standing == folder.standing
