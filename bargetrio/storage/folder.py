"""The file `meta` of a node's folder: cluster, node, members and standing (raft/standing.py)."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from bargetrio.raft.standing import EARLIER, EMPTY, REPLACED, Standing
from bargetrio.storage.disk import Disk, write_all
from bargetrio.storage.errors import StorageError, WrongFolder

FORMAT: Final = 3
FORMAT_WITHOUT_MEMBERS: Final = 2
"""The format before: no members and no standing in `meta`; such a folder is opened, and its `meta` written anew."""


class Meta(Struct, frozen=True, kw_only=True):
    """The file `meta`: the node and cluster that the folder belongs to, its members, and this store's standing.

    `members`: the node ids that the folder was made for; their stores are in the standing and in the log.
    """

    format: int
    cluster: str
    node: int
    members: tuple[int, ...]
    standing: Standing


class _EarlierMeta(Struct, frozen=True, kw_only=True):
    format: int
    cluster: str
    node: int
    store: str


class _Format(Struct, frozen=True):
    format: int


class Folder:
    """The file `meta` of a folder, created in a new one. The lock must be held.

    `members`: the node ids of the configuration; None: not checked. `origin`: a new folder's initial state (standing.py).

    Raises WrongFolder if cluster, node, members or format differ, StorageError if a file is damaged, OSError.
    """

    def __init__(
        self,
        disk: Disk,
        cluster: str,
        node_id: int,
        make_store_id: Callable[[], str],
        *,
        members: tuple[int, ...] | None = None,
        origin: str = EMPTY,
    ) -> None:
        self._disk = disk
        self._make_store_id = make_store_id
        members = None if members is None else tuple(sorted(members))
        meta = _read_meta(disk, members)
        if meta is None:
            standing = Standing(store=make_store_id(), origin=origin)
            meta = Meta(format=FORMAT, cluster=cluster, node=node_id, members=members or (node_id,), standing=standing)
            self._write(meta)
        if meta.cluster != cluster:
            raise WrongFolder(f"the folder belongs to cluster {meta.cluster!r}, not {cluster!r}")
        if meta.node != node_id:
            raise WrongFolder(f"the folder belongs to node {meta.node}, not node {node_id}")
        if members is not None and meta.members != members:
            had, has = listed(meta.members), listed(members)
            raise WrongFolder(f"the folder is one of a cluster of nodes {had}; the configuration names nodes {has}")
        self._meta = meta
        self.earlier_stores: dict[int, str] = _read_peers(disk)
        """Of a folder of an earlier version: the stores of the peers that it had met; they count until the cluster is born."""
        if meta.format < FORMAT:
            self._write(Meta(format=FORMAT, cluster=cluster, node=node_id, members=meta.members, standing=meta.standing))

    @property
    def standing(self) -> Standing:
        """Return this store's standing."""
        return self._meta.standing

    def write_standing(self, standing: Standing) -> None:
        """Write it and sync; raises OSError."""
        assert not standing.members, "they are the configuration's, and not stored"
        self._write(
            Meta(format=FORMAT, cluster=self._meta.cluster, node=self._meta.node, members=self._meta.members, standing=standing)
        )

    def replace_store(self) -> Standing:
        """Give the folder a new store id, synced; the returned standing names the replaced one. Raises OSError."""
        old = self.standing
        standing = Standing(store=self._make_store_id(), origin=REPLACED, replaces=old.store)
        self.write_standing(standing)
        return standing

    def _write(self, meta: Meta) -> None:
        replace_file(self._disk, "meta", msgspec.json.encode(meta) + b"\n")
        self._meta = meta


def replace_file(disk: Disk, path: str, data: bytes) -> None:
    """Replace a small file atomically: after a crash there is the old one or the new one (BUG-52)."""
    temporary = f"{path}.new"
    if disk.exists(temporary):
        disk.remove(temporary)
    file = disk.open(temporary, create=True)
    try:
        write_all(file, 0, data)
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.sync_dir("")


def _read_meta(disk: Disk, members: tuple[int, ...] | None) -> Meta | None:
    try:
        data = disk.read("meta")
    except FileNotFoundError:
        if disk.exists("wal") and any(name.endswith(".log") for name in disk.list("wal")):
            raise WrongFolder("the folder has a log but no file meta: its cluster and node are unknown") from None
        return None
    try:
        version = msgspec.json.decode(data, type=_Format).format
        if version > FORMAT:
            raise WrongFolder(f"the folder has format {version}; this program knows {FORMAT}: a newer Barge wrote it")
        if version < FORMAT_WITHOUT_MEMBERS:
            raise WrongFolder(f"the folder has format {version}, from before there were snapshots; this program knows {FORMAT}")
        if version == FORMAT_WITHOUT_MEMBERS:
            return _from_earlier(disk, msgspec.json.decode(data, type=_EarlierMeta), members)
        return msgspec.json.decode(data, type=Meta)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise StorageError(f"the file meta is damaged: {problem}") from None


def _from_earlier(disk: Disk, meta: _EarlierMeta, members: tuple[int, ...] | None) -> Meta:
    """Return the `meta` for a folder of the previous format: it keeps its data and its vote.

    If its disk had been replaced and had not caught up (the file `rejoining`), it waits to be readmitted.
    """
    origin = REPLACED if disk.exists("rejoining") else EARLIER
    standing = Standing(store=meta.store, origin=origin)
    return Meta(format=meta.format, cluster=meta.cluster, node=meta.node, members=members or (meta.node,), standing=standing)


def _read_peers(disk: Disk) -> dict[int, str]:
    try:
        return msgspec.json.decode(disk.read("peers"), type=dict[int, str])
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise StorageError(f"the file peers is damaged: {problem}") from None


def listed(members: tuple[int, ...]) -> str:
    """Return node ids as text for an error."""
    return ", ".join(str(member) for member in members)
