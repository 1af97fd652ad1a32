"""`bargetrio snapshot save | inspect | restore`: backups of a running cluster, and new clusters from them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import click

from bargetrio import console
from bargetrio.cli.shared import Place, config_option, fail, load_configuration, place_options
from bargetrio.files import UserPath

if TYPE_CHECKING:
    from bargetrio.storage.snapshots import SnapshotReader

SAVE_TIMEOUT_S = 150.0


@click.group()
def snapshot() -> None:
    """Back up a running cluster, look into a backup, begin a new cluster from it."""


@snapshot.command()
@click.argument("file", type=UserPath(dir_okay=False))
@place_options
def save(place: Place, file: str) -> None:
    """Write everything that is committed now into FILE; an existing one is replaced when the new one is whole."""
    from bargetrio.client.outcome import exit_code, told
    from bargetrio.protocol.errors import BargeError

    part = Path(f"{file}.part")
    try:
        with part.open("wb") as out:
            os.chmod(part, 0o600)
            checksum = 0

            def take(data: bytes) -> None:
                nonlocal checksum
                checksum = crc32(data, checksum)
                out.write(data)

            headers = place.client().admin.download("/snapshot", take, timeout_s=SAVE_TIMEOUT_S)
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        if (size, f"{checksum:08x}") != (int(headers.get("content-length", "-1")), headers.get("barge-checksum")):
            raise BargeError("storage_failed", "the backup did not arrive whole; try again")
        part.replace(file)
    except BargeError as error:
        part.unlink(missing_ok=True)
        fail(told(error), exit_code(error))
    except OSError as problem:
        part.unlink(missing_ok=True)
        fail(f"{file}: {problem.strerror or problem}", 1)
    console.say(f"{file}: everything up to index {headers['barge-index']}, {size:,} bytes")


@snapshot.command()
@click.option("--keys", "show_keys", is_flag=True, help="Print every key as a JSON line, as POST /keys takes it.")
@click.argument("file", type=UserPath(dir_okay=False))
def inspect(show_keys: bool, file: str) -> None:
    """Check every line of FILE, a backup or a file of a node's snapshots folder, and say what it holds."""
    import msgspec

    from bargetrio.kv.store import Stored, decode_slice
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
    except (StorageError, OSError) as problem:
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
    from bargetrio.storage.restore import FileOutside, is_taken
    from bargetrio.storage.restore import restore as make

    configuration = load_configuration(config_path)
    known = tuple(node.id for node in configuration.nodes)
    chosen = node_ids or known
    unknown = [node_id for node_id in chosen if node_id not in known]
    if unknown:
        fail(f"there is no node {unknown[0]} in {configuration.path}", 2)
    folders = {node_id: configuration.data_dir / f"node-{node_id}" for node_id in chosen}
    for folder in folders.values():
        if is_taken(folder):
            fail(f"{folder} is not empty: a backup is restored into a new cluster only; nothing was changed", 1)
    try:
        for line in _reader(file):  # all of it, before anything is made
            decode_slice(line)
        for node_id, folder in folders.items():
            made = make(
                FileOutside(Path(file)),
                file,
                folder,
                cluster=configuration.cluster,
                node_id=node_id,
                members=known,
                make_store_id=lambda: secrets.token_hex(16),
            )
            console.say(f"{folder}: everything up to index {made.last_index}")
    except (StorageError, OSError) as problem:
        fail(str(problem), 1)
    except ValueError as problem:
        fail(f"{file} holds what is no keys: {problem}; nothing was changed", 1)


def _reader(file: str) -> "SnapshotReader":
    from bargetrio.storage.restore import FileOutside
    from bargetrio.storage.snapshots import SnapshotReader

    return SnapshotReader(FileOutside(Path(file)), file)
