"""Disks that are lost, set back to an old image, or lie about what they have synced: what the simulated one does then."""

from random import Random

import pytest

from bargetrio.raft.messages import Entry
from bargetrio.raft.records import HardState, Remembered
from bargetrio.simulator.cluster import SimulatedCluster
from bargetrio.simulator.disk import SimulatedDisk
from tests.storage.logs import append, entry, history, open_log


def _written(disk: SimulatedDisk, count: int) -> list[Entry]:
    """Write so many entries, one a write, and end the process."""
    log, entries = open_log(disk), list[Entry]()
    log.write([HardState(term=1, voted_for=0)])
    for number in range(count):
        new = entry(1, str(number))
        log.write([append(entries, new)])
        entries.append(new)
    disk.end_process()
    return entries


def test_a_lost_disk_is_an_empty_one() -> None:
    """The folder that is made in its place has another store."""
    disk = SimulatedDisk(Random(0))
    _written(disk, 3)
    disk.lose()
    assert disk.names() == ()
    log = open_log(disk)
    assert (log.remembered, log.repaired) == (Remembered(), "")


def test_an_image_brings_back_what_was_synced_then() -> None:
    """What was written later is gone, and what was in the air when the image was made was not in it."""
    disk = SimulatedDisk(Random(0))
    entries = _written(disk, 3)
    image = disk.image()
    log = open_log(disk)
    log.write([HardState(term=2, voted_for=1), append(entries, entry(2, "later"))])
    disk.put_back(image)
    remembered = open_log(disk).remembered
    assert (remembered.hard_state, remembered.entries) == (HardState(term=1, voted_for=0), tuple(entries))
    disk.end_process()
    disk.put_back(image)
    assert open_log(disk).remembered.entries == tuple(entries), "what was done with the folder did not change the image"


@pytest.mark.parametrize("seed", range(20))
def test_a_lying_disk_loses_its_last_synced_writes_at_the_next_power_failure(seed: int) -> None:
    """At least one, at most as many as were told, and each whole: recovery finds a shorter log and nothing to repair."""
    disk = SimulatedDisk(Random(seed))
    entries = _written(disk, 3)
    disk.lie(2)
    log = open_log(disk)
    for number in range(4):
        new = entry(1, f"lie {number}")
        log.write([append(entries, new)])
        entries.append(new)
    disk.crash()
    log = open_log(disk)
    assert log.repaired == ""
    assert len(log.remembered.entries) in (5, 6)
    assert log.remembered.entries == tuple(entries[: len(log.remembered.entries)])
    disk.crash()
    assert open_log(disk).remembered.entries == log.remembered.entries, "it lied once"


def test_what_was_settled_stays() -> None:
    """A vote, for example: the simulator's disks lie about entries only."""
    disk = SimulatedDisk(Random(0))
    disk.lie(5)
    log = open_log(disk)
    log.write([HardState(term=1, voted_for=0)])
    log.write([append([], entry(1, "a"))])
    disk.settle()
    disk.crash()
    assert len(open_log(disk).remembered.entries) == 1


@pytest.mark.parametrize("seed", range(200))
def test_a_lie_is_never_damage(seed: int) -> None:
    """Over segments, truncations, votes and lives: what recovery finds is what some write had left."""
    random = Random(seed)
    disk = SimulatedDisk(random)
    states = [Remembered()]
    log = open_log(disk, segment_bytes=random.choice((300, 1024, 4096)))
    lies_from = random.randrange(20)
    for number, (records, remembered) in enumerate(history(random, 20)):
        if number == lies_from:
            disk.lie(random.randint(1, 4))
        log.write(records)
        states.append(remembered)
    disk.crash()
    found = open_log(disk).remembered
    assert found in states[-5:]


def test_the_replacement_of_a_disk_needs_all_nodes() -> None:
    """A node with an empty folder and a list of itself alone would begin a cluster of its own: seed 4170."""
    server = SimulatedCluster(0, 3, frozenset(), keep=False).servers[0]
    server.node_ids = (0,)
    server.lose_disk()
    assert server.start()
    assert len(server.node_ids) == 3
    assert server.core is not None and not server.core.standing.identity
