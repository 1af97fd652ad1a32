"""Planted bugs: each disables one rule, and the simulator must find it (`bargetrio simulate --break NAME`).

They show what a rule is for, and prove that the simulator would notice its loss. A break replaces a function of the running
program for one run and puts it back; nothing of it is in the program otherwise. registry.py says how, the other files what.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bargetrio.simulator.breaks import accounts, commit, disk, links, log, members, outcomes, reads, snapshots, transfers, votes
from bargetrio.simulator.breaks.registry import PLANTED, Break, Patches
from bargetrio.simulator.stack import breaks as of_the_stack

BREAKS: Final[dict[str, Break]] = {
    name: planted
    for file in (votes, log, commit, reads, disk, snapshots, links, accounts, outcomes, members, transfers, of_the_stack)
    for name, planted in PLANTED.items()
    if planted.apply.__module__ == file.__name__
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Run with one planted bug; None: without. Raise KeyError for an unknown name."""
    patches = Patches()
    if name is not None:
        BREAKS[name].apply(patches)
    try:
        yield
    finally:
        patches.undo()
