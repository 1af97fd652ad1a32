"""All states in which a power failure may leave a disk; `SimulatedDisk.crash` draws one of them.

A write that was not synced may be there in any of its sectors, or not at all; a file may end at any byte, or have its new length
or its old one; a new name may be there or not. A "cut" is a state that no disk leaves: zeros from the middle of a sector on.
"""

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Final

from bargetrio.simulator.disk import SECTOR, SimulatedDisk, Unsynced

MOST_SECTORS: Final = 6
"""Bounds the subsets that are drawn of a larger write: as many as a write over this number of sectors has."""


def crash_states(disk: SimulatedDisk, random: Random, most_cuts: int) -> Iterator[tuple[str, SimulatedDisk]]:
    """Yield (what it is, a new disk in that state); of the cuts of one write at most `most_cuts`, drawn at random."""
    old, new = disk.names_after_crash()
    for names in {tuple(sorted(old)), tuple(sorted(new))}:
        files = [(name, list(_contents(disk.unsynced(name, lasting=name in old), random, most_cuts))) for name in names]
        dirty = [place for place, (_, contents) in enumerate(files) if len(contents) > 1]
        if not dirty:
            yield "nothing in the air", _disk({name: contents[0][1] for name, contents in files})
            continue
        choices = [contents if place == dirty[-1] else contents[:2] for place, (_, contents) in enumerate(files)]
        for chosen in product(*choices):
            what = chosen[dirty[-1]][0]
            yield what, _disk({name: content for (name, _), (_, content) in zip(files, chosen, strict=True)})


def _contents(file: Unsynced, random: Random, most_cuts: int) -> Iterator[tuple[str, bytes]]:
    """Yield the contents that the file may have: what was synced first, all that was written second."""
    yield "as synced", file.synced
    if not file.pending and len(file.synced) == file.size:
        return
    for size in sorted({len(file.synced), file.size}):
        yield f"all written, {size} bytes long", _written(file, file.pending, size)
    bytes_written = sum(len(data) for _, data in file.pending)
    cuts = range(bytes_written)
    for cut in cuts if bytes_written <= most_cuts else random.sample(cuts, most_cuts):
        begun = _up_to(file.pending, cut)
        yield f"cut after {cut} bytes", _written(file, begun, file.size)
        if any(data and offset + len(data) > len(file.synced) for offset, data in begun):
            yield f"ends after {cut} bytes", _written(file, begun, 0)
    sectors = sorted({start // SECTOR for start, _ in _pieces(file.pending)})
    if len(sectors) <= MOST_SECTORS:
        subsets = [mask for mask in product((False, True), repeat=len(sectors))]
    else:
        subsets = [tuple(random.random() < 0.5 for _ in sectors) for _ in range(2**MOST_SECTORS)]
    for mask in subsets:
        there = {sector for sector, kept in zip(sectors, mask, strict=True) if kept}
        pieces = [(start, data) for start, data in _pieces(file.pending) if start // SECTOR in there]
        yield f"sectors {sorted(there)} of {sectors}", _written(file, pieces, file.size)


def _written(file: Unsynced, pieces: list[tuple[int, bytes]], size: int) -> bytes:
    content = bytearray(file.synced)
    for offset, data in pieces:
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data
    content.extend(bytes(max(0, size - len(content))))
    return bytes(content if size < len(file.synced) else content[: max(size, len(file.synced))])


def _up_to(pending: list[tuple[int, bytes]], count: int) -> list[tuple[int, bytes]]:
    """Return the first `count` bytes of what was written."""
    found: list[tuple[int, bytes]] = []
    for offset, data in pending:
        found.append((offset, data[:count]))
        count -= min(count, len(data))
    return found


def _pieces(pending: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return what was written, cut at the borders of sectors."""
    found: list[tuple[int, bytes]] = []
    for offset, data in pending:
        while data:
            size = SECTOR - offset % SECTOR
            found.append((offset, data[:size]))
            offset, data = offset + size, data[size:]
    return found


def _disk(contents: dict[str, bytes]) -> SimulatedDisk:
    disk = SimulatedDisk(Random(0))
    for name, content in contents.items():
        disk.put(name, content)
    return disk
