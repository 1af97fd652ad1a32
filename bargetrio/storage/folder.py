"""Whose folder it is, and which stores its node has met."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from bargetrio.storage.disk import Disk
from bargetrio.storage.errors import StorageError, WrongFolder

FORMAT: Final = 2


class Meta(Struct, frozen=True, kw_only=True):
    """The file `meta`: which node of which cluster writes here, and since when (a store is as old as its id)."""

    format: int
    cluster: str
    node: int
    store: str


class _Format(Struct, frozen=True):
    format: int


class Folder:
    """The files beside the log. The lock must be held."""

    def __init__(self, disk: Disk, cluster: str, node_id: int, make_store_id: Callable[[], str]) -> None:
        self._disk = disk
        meta = _read_meta(disk)
        if meta is None:
            meta = Meta(format=FORMAT, cluster=cluster, node=node_id, store=make_store_id())
            replace_file(disk, "meta", msgspec.json.encode(meta) + b"\n")
        if meta.cluster != cluster:
            raise WrongFolder(f"the folder belongs to cluster {meta.cluster!r}, not {cluster!r}")
        if meta.node != node_id:
            raise WrongFolder(f"the folder belongs to node {meta.node}, not node {node_id}")
        self.store_id = meta.store
        self.known_stores: dict[int, str] = _read_peers(disk)

    def remember_store(self, peer_id: int, store_id: str) -> None:
        """Keep a peer's store id for ever, unless it is known."""
        if peer_id in self.known_stores:
            return
        known = {**self.known_stores, peer_id: store_id}
        replace_file(self._disk, "peers", msgspec.json.encode(known) + b"\n")
        self.known_stores = known

    def forget_store(self, peer_id: int) -> None:
        """Let the peer come back with another disk: the operator has said so."""
        if peer_id in self.known_stores:
            known = {peer: store for peer, store in self.known_stores.items() if peer != peer_id}
            replace_file(self._disk, "peers", msgspec.json.encode(known) + b"\n")
            self.known_stores = known

    @property
    def is_rejoining(self) -> bool:
        """Whether this disk is new to a cluster that is not, and has not caught up."""
        return self._disk.exists("rejoining")

    def note_rejoining(self, *, rejoining: bool) -> None:
        """Remember it, or that it is over."""
        if rejoining:
            replace_file(self._disk, "rejoining", b"{}\n")
        elif self.is_rejoining:
            self._disk.remove("rejoining")
            self._disk.sync_dir("")


def replace_file(disk: Disk, path: str, data: bytes) -> None:
    """Put a small file in place as a whole: after a crash there is the old one or the new one (BUG-52)."""
    temporary = f"{path}.new"
    if disk.exists(temporary):
        disk.remove(temporary)
    file = disk.open(temporary, create=True)
    try:
        offset = 0
        while offset < len(data):
            offset += file.write_at(offset, data[offset:])
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.sync_dir("")


def _read_meta(disk: Disk) -> Meta | None:
    try:
        data = disk.read("meta")
    except FileNotFoundError:
        if disk.exists("wal") and any(name.endswith(".log") for name in disk.list("wal")):
            raise WrongFolder("the folder has a log but no file meta: whose it is can't be told") from None
        return None
    try:
        version = msgspec.json.decode(data, type=_Format).format
        if version > FORMAT:
            raise WrongFolder(f"the folder has format {version}; this program knows {FORMAT}: a newer Barge wrote it")
        if version < FORMAT:
            raise WrongFolder(f"the folder has format {version}, from before there were snapshots; this program knows {FORMAT}")
        return msgspec.json.decode(data, type=Meta)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise StorageError(f"the file meta is damaged: {problem}") from None


def _read_peers(disk: Disk) -> dict[int, str]:
    try:
        return msgspec.json.decode(disk.read("peers"), type=dict[int, str])
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise StorageError(f"the file peers is damaged: {problem}") from None
