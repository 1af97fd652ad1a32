"""Invariants that are suspended after a disk lost or altered synced data, by entry and term.

A store X is found, at one moment, with less than it had synced. M: the disks that have never lost anything. From then on two
kinds of invariants may not hold.

**Entries.** What X has acknowledged and lost may be committed with its acknowledgement. The entries below `from_index` are safe
all the same, for each of them is on a majority of M at that moment. A candidate needs a majority, so the vote of one disk that
holds the entry: it grants none to a log that is behind its own (Raft 5.4.1), and by log matching a log that is not behind its own
has the entry, too. A vote that this disk gave before it had the entry is of a term that it has left, or of the term of the
leader from which it has the entry. So the proof of leader completeness (Raft 5.4.3) holds with M's majority in the place of the
one that had acknowledged. An entry that is committed in a term above `until_term`, X's when it was found, is safe too, with all
before it: no node counts an acknowledgement of X from before the loss in such a term, and since then X loses nothing. A leader
of a term up to `until_term` may still count the old ones, so what it commits extends no invariant.

**Terms**, where X also forgot a vote or a term: in those from the one that it knows now up to `until_term` it may vote a second
time, and follow a leader that it had left. What a leader of such a term does proves nothing. In all other terms each store has
one vote, and a second leader of one term ends the seed: from what is left of the seed log matching can be demanded.
A second vote in term T is excused only by a damage of the voter's own store that covers T. Its first vote was on its disk, so
the disk knew a term >= T; before the second one it knew a term <= T, and no vote for the first candidate in T. The term on a
disk never falls but by a loss, so one of the store's losses lies between: X knew `until_term` >= T before it and knows
`forgotten_from` <= T after it. This holds for any number of losses: each is compared with what the store's disk knew last, also
of a store whose folder is put back after another one has been in its place.

Where a log was altered, its acknowledgements and votes prove nothing about that entry, in any term. If a majority of M holds the
entry as it was, no leader with the altered one can commit anything: its followers compare digests. What follows the entry on X's
disk is lost like any tail, since X acknowledges nothing that follows it any more.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from bargetrio.raft.messages import Index, Term
from bargetrio.simulator.memory import Committed, StoreId

FOR_EVER: Final = 1 << 60
"""`until_term` of a log that was altered."""


class Damage(NamedTuple):
    """The damage of one disk, see above. `forgotten_from`: the first term in which it may vote or follow anew; None: no term.

    `store`: whose vote or term was forgotten; ids are unique among all nodes.
    """

    from_index: Index
    until_term: Term
    forgotten_from: Term | None = None
    store: StoreId = ""

    def excuses_leader(self, term: Term) -> bool:
        """Return whether the leader of this term may be a second one, or one that the majority had left."""
        return self.forgotten_from is not None and self.forgotten_from <= term <= self.until_term

    def excuses_vote(self, store: StoreId, term: Term) -> bool:
        """Return whether this store may vote a second time in this term (Raft 5.2)."""
        return store == self.store and self.excuses_leader(term)

    def excuses(self, index: Index, term: Term, committed: Sequence[Committed]) -> bool:
        """Return whether the leader of `term` may act as if the committed entry `index` were not there."""
        if self.excuses_leader(term):
            return True
        if index < self.from_index:
            return False
        return term <= self.until_term or all(entry.in_term <= self.until_term for entry in committed[index:])
