"""The file `meta`: node and cluster of the folder, the members, and the store's standing."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from msgspec import Raw

from bargetrio.raft.messages import Entry
from bargetrio.raft.records import Append, HardState, Install, Record, Truncate
from bargetrio.raft.standing import Configuration, Standing, encode_configuration, identity_of
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.errors import DamagedLog, WrongFolder
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.snapshots import SnapshotReceiver
from bargetrio.storage.wal import OpenFolder, open_folder
from tests.storage.logs import entry, file_of, open_log, send

STORES = {0: "s0", 1: "s1", 2: "s2"}


def opened(path: Path, members: tuple[int, ...] = (0, 1, 2)) -> OpenFolder:
    return open_folder(RealDisk(path), "barge", 0, lambda: "s0", members=members)


def earlier(path: Path, records: Sequence[Record]) -> None:
    """Make a folder of format 2 with these records."""
    folder = opened(path)
    folder.write(records)
    folder.close()
    (path / "meta").write_text('{"format":2,"cluster":"barge","node":0,"store":"old"}\n')
    (path / "peers").write_text('{"1":"s1"}\n')


def test_a_folder_knows_its_members(tmp_path: Path) -> None:
    """From its first opening on, whether it holds a snapshot or not: another list would make a second cluster."""
    opened(tmp_path).close()
    with pytest.raises(WrongFolder, match="nodes 0, 1, 2; the configuration names nodes 0"):
        opened(tmp_path, (0,))
    opened(tmp_path, (2, 1, 0)).close()


def test_a_standing_that_was_written_is_there_after_the_next_opening(tmp_path: Path) -> None:
    """The set of stores before the first vote; a replaced store tells the one before."""
    folder = opened(tmp_path)
    assert folder.standing == Standing(store="s0")
    born = Standing(store="s0", identity=identity_of(STORES), birth=STORES)
    folder.write_standing(born)
    folder.close()
    folder = opened(tmp_path)
    assert folder.standing == born
    assert folder.replace_store() == Standing(store="s0", origin="replaced", replaces="s0")
    folder.close()
    folder = opened(tmp_path)
    assert (folder.standing.identity, folder.standing.origin) == ("", "replaced")
    folder.close()


@pytest.mark.parametrize("admitted", [0, 7])
def test_a_born_store_whose_log_is_gone_is_damaged_and_no_new_one(admitted: int, tmp_path: Path) -> None:
    """It would vote twice; also if it was readmitted."""
    folder = opened(tmp_path)
    birth = {} if admitted else STORES
    folder.write_standing(Standing(store="s0", identity=identity_of(STORES), birth=birth, admitted=admitted))
    folder.close()
    shutil.rmtree(tmp_path / "wal")
    for _ in range(2):
        with pytest.raises(DamagedLog, match="the cluster is born, and there is no log: term and vote are lost"):
            opened(tmp_path)


def test_a_folder_of_the_version_before_opens_and_keeps_its_data(tmp_path: Path) -> None:
    """It has voted, and continues to vote; its store id and those of its peers stay."""
    earlier(tmp_path, [HardState(term=3, voted_for=1), Append(first_index=1, digest=9, entries=(Entry(3, Raw(b"null")),))])
    for _ in range(2):
        folder = opened(tmp_path)
        assert folder.standing == Standing(store="old", origin="earlier version")
        assert folder.remembered.hard_state == HardState(term=3, voted_for=1)
        assert len(folder.remembered.entries) == 1
        assert folder.earlier_stores == {1: "s1"}
        folder.close()
    with pytest.raises(WrongFolder, match="names nodes 0, 1"):
        opened(tmp_path, (0, 1))


@pytest.mark.parametrize(
    "record",
    [
        HardState(term=3),
        HardState(term=0, voted_for=1),
        Append(first_index=1, digest=9, entries=(Entry(0, Raw(b"null")),)),
    ],
    ids=["a term", "a vote", "an entry"],
)
def test_each_promise_by_itself_makes_a_folder_of_the_version_before_one_that_votes(record: Record, tmp_path: Path) -> None:
    """A term alone, too: a node that has left a term accepts no entry of it any more."""
    earlier(tmp_path, [record])
    folder = opened(tmp_path)
    assert folder.standing.origin == "earlier version"
    folder.close()


def test_a_log_without_meta_is_refused(tmp_path: Path) -> None:
    """A new `meta` would make it another store, without votes and acknowledgements."""
    opened(tmp_path).close()
    (tmp_path / "meta").unlink()
    with pytest.raises(WrongFolder, match="its cluster and node are unknown"):
        opened(tmp_path)


def test_a_folder_of_the_version_before_that_never_voted_is_an_empty_one(tmp_path: Path) -> None:
    """It has neither voted nor acknowledged."""
    earlier(tmp_path, [])
    folder = opened(tmp_path)
    assert folder.standing == Standing(store="old", origin="empty")
    folder.close()


def test_a_folder_of_the_version_before_whose_disk_was_replaced_waits(tmp_path: Path) -> None:
    """It had not caught up: it must not vote as one that goes on."""
    earlier(tmp_path, [HardState(term=3, voted_for=None)])
    (tmp_path / "rejoining").write_text("{}\n")
    folder = opened(tmp_path)
    assert folder.standing.origin == "replaced"
    folder.close()


def test_configurations_in_the_log_are_remembered_until_they_are_truncated(tmp_path: Path) -> None:
    """They count from when they are appended, over restarts, too (BUG-40)."""
    configuration = Configuration(index=2, identity="i", stores=STORES, readmitted=1)
    entries = (Entry(1, Raw(b"null")), Entry(1, encode_configuration(configuration)))
    folder = opened(tmp_path)
    folder.write([Append(first_index=1, digest=9, entries=entries, configurations=(2,))])
    folder.close()
    folder = opened(tmp_path)
    assert folder.remembered.configurations == (configuration,)
    folder.write([Truncate(from_index=2, last_term=1, digest=5)])
    folder.close()
    folder = opened(tmp_path)
    assert folder.remembered.configurations == ()
    folder.close()


@pytest.mark.parametrize("is_cut", [False, True], ids=["the crash came later", "the crash came before the earlier segment went"])
def test_configurations_before_a_leaders_snapshot_are_its_own(is_cut: bool) -> None:
    """The replaced log's may never have been committed: only the snapshot's counts (BUG-36, BUG-40)."""
    disk = SimulatedDisk(Random(1))
    configuration = Configuration(index=2, identity="i", stores=STORES, readmitted=1)
    entries = (Entry(1, Raw(b"null")), Entry(1, encode_configuration(configuration)))
    log = open_log(disk)
    log.write([Append(first_index=1, digest=9, entries=entries, configurations=(2,))])
    snapshot, data = file_of([entry(2, f"e{index}") for index in range(1, 9)])
    send(SnapshotReceiver(disk, "barge"), data, snapshot)
    first = disk.peek("wal/0000000000000001.log").rstrip(b"\0")  # as the next one's beginning leaves it
    log.write([Install(snapshot=snapshot)])
    log.close()
    if is_cut:
        disk.put("wal/0000000000000001.log", first)
    log = open_log(disk)
    assert log.remembered.configurations == () and log.remembered.snapshot == snapshot
    log.close()
