"""On a real file system: each name that was made is synced with its folder before it is told of, in the right order (BUG-52)."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bargetrio.raft.records import HardState
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.restore import UserFile, restore
from bargetrio.storage.snapshots import SnapshotReceiver, install
from tests.storage.logs import MEMBERS, append, entry, file_of, open_log, save, send

LOG = [entry(1, f"e{index}") for index in range(1, 9)]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a descriptor is")


class Names:
    """The names that the tested code creates, and whether their folders were synced since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._unsynced: dict[Path, set[str]] = {}
        for name in ("open", "mkdir", "rename", "fsync"):
            monkeypatch.setattr(os, name, self._seen(getattr(os, name), getattr(self, f"_{name}")))

    @staticmethod
    def _seen(call: Callable[..., Any], note: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*args: Any, **options: Any) -> Any:
            before = note(*args, **options)
            result = call(*args, **options)
            if before is not None:
                before()
            return result

        return seen

    def _made(self, path: Path) -> None:
        self._unsynced.setdefault(path.parent, set()).add(path.name)

    def _open(self, path: Any, flags: int, *_: Any, dir_fd: int | None = None) -> Any:
        where = _where(path, dir_fd)
        if flags & os.O_CREAT and where.name != "lock" and not where.exists():
            return lambda: self._made(where)
        return None

    def _mkdir(self, path: Any, *_: Any, dir_fd: int | None = None) -> Any:
        where = _where(path, dir_fd)
        return None if where.exists() else lambda: self._made(where)

    def _rename(self, old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> Any:
        source, target = _where(old, src_dir_fd), _where(new, dst_dir_fd)
        if target.name == "meta" and source.parent != target.parent:
            assert self.left(target.parent) == [], "without meta no node starts there: all else is synced before it has its name"

        def moved() -> None:
            self._unsynced.get(source.parent, set()).discard(source.name)
            for folder in [each for each in self._unsynced if each == source or source in each.parents]:
                self._unsynced[target / folder.relative_to(source)] = self._unsynced.pop(folder)
            self._made(target)

        return moved

    def _fsync(self, descriptor: int) -> None:
        self._unsynced.pop(Path(os.readlink(f"/proc/self/fd/{descriptor}")), None)

    def left(self, root: Path) -> list[str]:
        """Return the names in or under a folder that a power failure may lose."""
        found = [folder / name for folder, names in self._unsynced.items() for name in names if root in (folder, *folder.parents)]
        return sorted(str(path.relative_to(root)) for path in found if path.exists())


def _where(path: Any, dir_fd: int | None) -> Path:
    base = Path.cwd() if dir_fd is None else Path(os.readlink(f"/proc/self/fd/{dir_fd}"))
    return Path(base, os.fspath(path))


@pytest.mark.parametrize("folder", ["node-0", "data/node-0", "a/b/c/node-0"])
def test_what_a_node_has_reported_is_in_synced_folders(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first start, its first segments, a snapshot of its own and a leader's."""
    names = Names(monkeypatch)
    disk = RealDisk(tmp_path / folder)
    log = open_log(disk)
    assert names.left(tmp_path) == []
    log.write([HardState(term=1, voted_for=1), append([], *LOG)])
    log.write([append(LOG, *[entry(1, "x" * 900)])])
    assert names.left(tmp_path) == []
    save(disk, LOG)
    assert names.left(tmp_path) == []
    snapshot, data = file_of([*LOG, entry(1, "x" * 900), entry(1, "last")])
    assert send(SnapshotReceiver(disk, "barge"), data, snapshot) == snapshot.size
    install(disk, snapshot)
    assert names.left(tmp_path) == []
    log.close()


@pytest.mark.parametrize("kind", ["absent", "empty", "in folders that are absent"])
def test_a_restored_folder_is_durable_when_it_is_reported(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its names, before `meta`, without which it is no folder of a node."""
    snapshot, data = file_of(LOG)
    (tmp_path / "backup").write_bytes(data)
    folder = tmp_path / ("data/node-0" if kind == "in folders that are absent" else "node-0")
    if kind == "empty":
        folder.mkdir()
    names = Names(monkeypatch)
    source = UserFile(tmp_path / "backup")
    restored = restore(source, "b", folder, cluster="new", node_id=0, members=MEMBERS, make_store_id=lambda: "s")
    assert restored.last_index == snapshot.last_index
    assert names.left(tmp_path) == []
