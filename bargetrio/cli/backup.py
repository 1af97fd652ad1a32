"""`bargetrio snapshot save | inspect | restore`: backups of a running cluster, and new clusters from them."""

import os
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import click

from bargetrio import console
from bargetrio.cli import signals
from bargetrio.cli.shared import ClusterOptions, UserPath, config_option, fail, load_configuration, place_options
from bargetrio.files import replacing

if TYPE_CHECKING:
    from bargetrio.storage.snapshots import SnapshotReader, SnapshotStart

SAVE_TIMEOUT_S = 150.0


@click.group()
def snapshot() -> None:
    """Back up a running cluster, inspect a backup, begin a new cluster from it."""


@snapshot.command()
@click.argument("file", type=UserPath(dir_okay=False, allow_dash=True))
@place_options
def save(place: ClusterOptions, file: str) -> None:
    """Write everything that is committed now into FILE, or to standard output if FILE is -.

    FILE gets its name when it is whole, read back and synced. It may be an earlier backup of the same cluster, which is replaced,
    unless it has become a newer one meanwhile; anything else is left alone.
    """
    from bargetrio.cli.exit_codes import OUTPUT_LOST, error_text, exit_code
    from bargetrio.protocol.errors import BargeError
    from bargetrio.storage.errors import StorageError
    from bargetrio.storage.snapshots import SnapshotReader

    _end_by_exception()
    try:
        if file == "-":
            _save_to_output(place)
            return
        before = _label_of(file)
        with replacing(Path(file)) as out:
            headers = place.client().admin.download("/snapshot", out.write, timeout_s=place.timeout_s or SAVE_TIMEOUT_S)
            out.flush()
            reader = SnapshotReader(_FileInProgress(out.fileno()), "what has arrived")
            for _ in reader:
                pass
            _check_whole(headers, reader.meta.size, reader.meta.checksum)
            _check_succession(file, before, reader.start)
            there = _label_of(file)
            if there is not None and there.cluster == reader.start.cluster and there.last_index > reader.start.last_index:
                raise _NewerBackupExists(there.last_index)
        console.say(f"{file}: everything up to index {headers['barge-index']}, {reader.meta.size:,} bytes")
    except _NewerBackupExists as newer:
        console.say(f"{file}: everything up to index {newer}, by another save; a newer backup is not replaced")
    except BargeError as error:
        fail(error_text(error), exit_code(error))
    except StorageError as problem:
        fail(f"the backup did not arrive whole: {problem}; nothing was written", 1)
    except OSError as problem:
        fail(f"{file} can't be written on this machine: {problem.strerror or problem}", OUTPUT_LOST)


def _save_to_output(place: ClusterOptions) -> None:
    if console.is_terminal():
        raise click.UsageError("a backup is not written to a terminal")
    size = checksum = 0

    def take(data: bytes) -> None:
        nonlocal size, checksum
        size, checksum = size + len(data), crc32(data, checksum)
        console.say_bytes(data)

    headers = place.client().admin.download("/snapshot", take, timeout_s=place.timeout_s or SAVE_TIMEOUT_S)
    _check_whole(headers, size, checksum)
    console.complain(f"everything up to index {headers['barge-index']}, {size:,} bytes")


def _check_succession(file: str, before: "SnapshotStart | None", start: "SnapshotStart") -> None:
    """End the process if the existing file is not an earlier backup of this cluster.

    A backup has everything that was committed at the request, so an earlier one of the same cluster has no higher index.
    """
    if before is None or (before.cluster == start.cluster and before.last_index <= start.last_index):
        return
    fail(
        f"{file} is a backup of cluster {before.cluster} up to index {before.last_index}, and this is cluster {start.cluster} at "
        f"index {start.last_index}: another one, or begun anew since. It is left as it is; name another file",
        1,
    )


class _NewerBackupExists(Exception):
    """Another process has meanwhile written a newer backup; the argument is its index."""


class _FileInProgress:
    """The file that is being written, to be read back; raises OSError."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_part(self, offset: int, size: int) -> bytes:
        """Read."""
        return os.pread(self._descriptor, size, offset)


def _check_whole(headers: dict[str, str], size: int, checksum: int) -> None:
    from bargetrio.storage.errors import StorageError

    if (str(size), f"{checksum:08x}") != (headers.get("content-length"), headers.get("barge-checksum")):
        raise StorageError(f"{size:,} bytes with CRC-32 {checksum:08x}, which is not what the daemon announced")


def _label_of(file: str) -> "SnapshotStart | None":
    """Return the first line of the backup in `file`, None if it is missing or empty; end the process if it is no backup."""
    from bargetrio.storage.errors import StorageError

    with suppress(FileNotFoundError, StorageError):
        there = os.stat(file)
        if stat.S_ISREG(there.st_mode):
            return _reader(file).start if there.st_size else None
    if not os.path.exists(file):
        return None
    fail(f"{file} is there and is no backup; it is left as it is", 1)


def _end_by_exception() -> None:
    """Convert SIGINT to KeyboardInterrupt, SIGTERM and SIGHUP into SystemExit, so that unfinished files are deleted."""
    signals.begin(signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))


@snapshot.command()
@click.option("--keys", "show_keys", is_flag=True, help="Print every key as a JSON line, as POST /keys takes it.")
@click.argument("file", type=UserPath(dir_okay=False))
def inspect(show_keys: bool, file: str) -> None:
    """Check every line of FILE, a backup or a file of a node's snapshots folder, and say what it holds."""
    import msgspec

    from bargetrio.kv.commands import Stored
    from bargetrio.kv.store import decode_slice
    from bargetrio.storage.errors import StorageError

    def line_of(key: str, stored: Stored) -> bytes:
        return msgspec.json.encode({"key": key, "value_b64" if stored.is_b64 else "value": stored.value})

    keys = 0
    try:
        reader = _reader(file)
        for line in reader:
            found = decode_slice(line)
            keys += len(found)
            if show_keys:
                console.say_json(*(line_of(key, stored) for key, stored in found.items()))
    except OSError as problem:
        fail(_unreadable(file, problem), 1)
    except StorageError as problem:
        fail(str(problem), 1)
    except ValueError as problem:
        fail(f"{file} holds what is no keys: {problem}", 1)
    start, meta = reader.start, reader.meta
    nodes = ", ".join(str(member) for member in start.members)
    (console.complain if show_keys else console.say)(
        f"cluster {start.cluster}, nodes {nodes}: {keys:,} keys at index {start.last_index} of term {start.last_term}\n"
        f"{meta.size:,} bytes, CRC-32 {meta.checksum:08x}, log digest {start.digest:08x}: whole"
    )


@snapshot.command()
@config_option
@click.option("--node", "node_ids", type=int, multiple=True, help="Make only this node's folder (may repeat); default: all.")
@click.argument("file", type=UserPath(dir_okay=False))
def restore(config_path: str, node_ids: tuple[int, ...], file: str) -> None:
    """Begin a new cluster with the state in FILE: make its data folders, which must not be there. Start none before all are made.

    On several hosts the same FILE is restored on each, with --node.
    """
    import secrets

    from bargetrio.kv.store import decode_slice
    from bargetrio.storage.errors import StorageError
    from bargetrio.storage.restore import UserFile, is_in_use
    from bargetrio.storage.restore import restore as make

    configuration = load_configuration(config_path)
    known = tuple(node.id for node in configuration.nodes)
    chosen = node_ids or known
    unknown = [node_id for node_id in chosen if node_id not in known]
    if unknown:
        fail(f"there is no node {unknown[0]} in {configuration.path}", 2)
    folders = {node_id: configuration.data_dir / f"node-{node_id}" for node_id in chosen}
    for folder in folders.values():
        if is_in_use(folder):
            fail(f"{folder} is not empty: a backup is restored into a new cluster only; nothing was changed", 1)
    _end_by_exception()
    try:
        for line in _reader(file):  # check all of it before creating anything
            decode_slice(line)
    except OSError as problem:
        fail(f"{_unreadable(file, problem)}; nothing was changed", 1)
    except StorageError as problem:
        fail(f"{problem}; nothing was changed", 1)
    except ValueError as problem:
        fail(f"{file} holds what is no keys: {problem}; nothing was changed", 1)
    done: list[int] = []
    try:
        for node_id, folder in folders.items():
            made = make(
                UserFile(Path(file)),
                file,
                folder,
                cluster=configuration.cluster,
                node_id=node_id,
                members=known,
                make_store_id=lambda: secrets.token_hex(16),
            )
            done.append(node_id)
            console.say(f"{folder}: everything up to index {made.last_index}")
    except OSError as problem:
        fail(f"{folder} can't be made: {problem.strerror or problem}{_resume_text(done, chosen)}", 1)
    except StorageError as problem:
        fail(f"{problem}{_resume_text(done, chosen)}", 1)


def _resume_text(done: list[int], chosen: tuple[int, ...]) -> str:
    """Return, for a restore that ended early, the folders already made, and the options for the rest; "" if none was made."""
    if not done:
        return "; nothing was changed"
    left = " ".join(f"--node {node_id}" for node_id in chosen if node_id not in done)
    return f"; made before: node {', '.join(map(str, done))}. Go on with the same file and {left}, and start none before"


def _unreadable(file: str, problem: OSError) -> str:
    return f"{file} can't be read: {problem.strerror or problem}"


def _reader(file: str) -> "SnapshotReader":
    from bargetrio.storage.restore import UserFile
    from bargetrio.storage.snapshots import SnapshotReader

    return SnapshotReader(UserFile(Path(file)), file)
