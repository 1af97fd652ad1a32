"""A leader's view of one follower, and its transitions (Figure 2; Ongaro 10.2.2; modelled on etcd's `tracker`).

```
            become_replicate                          entries are sent ahead of the replies, as far as the window allows
probe      ------------------> replicate
           <------------------
            become_probe                              one empty append at a time finds where the logs agree
any state  --become_snapshot--> snapshot --become_replicate--> replicate
```
Nothing but the methods here changes `state` or the window of appends in flight.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import Struct

from bargetrio.raft.messages import Index, SnapshotMeta

ProgressState = Literal["probe", "replicate", "snapshot"]
LAG_APPENDS: Final = 8
"""Least number of appends between two checks whether a follower that catches up gets further behind."""


class Pipeline(Struct, frozen=True, kw_only=True):
    """Bounds of what a leader sends ahead of the replies, and of one write (Ongaro 10.2.1); in the simulator smaller."""

    batch_entries: int = 2000
    batch_bytes: int = 1024 * 1024
    """Of the commands in one append; a single larger command is sent alone."""
    window_appends: int = 64
    window_bytes: int = 8 * 1024 * 1024
    """Appends sent to a follower and not yet answered; heartbeats go on when it is full (BUG-27)."""
    write_bytes: int = 4 * 1024 * 1024
    """Of the commands in one write of the log, or one command: a backlog behind a slow sync is written in parts."""
    far_behind: int = 10_000
    catch_up_entries: int = 1000
    """A follower that lacks more than `far_behind` entries, beside those in flight, gets them in appends of `catch_up_entries`,
    one at a time as long as it catches up: its work for them must not slow down the writes that go on, above all where it runs in
    the same process (docs/decisions/catching_up.md)."""


PIPELINE: Final = Pipeline()
"""The bounds that real nodes use."""


@dataclass(slots=True)
class Transfer:
    """A snapshot that is sent to one follower, a chunk at a time; a chunk that is certainly or probably lost is sent again.

    `probe_round`: that of the heartbeats which were sent after the chunk had left this process, 0 while it has not.
    `heartbeats_waited`: heartbeats since one of them was answered, or since a sign that the chunk is arriving. `patience`: how
    many minimum election timeouts to wait then for the reply; it doubles each time. `restarts`: how often the follower had to
    start over. `has_begun`: a chunk was sent.
    """

    snapshot: SnapshotMeta
    offset: int = 0
    has_begun: bool = False
    is_due: bool = True
    probe_round: int = 0
    heartbeats_waited: int = 0
    patience: int = 1
    restarts: int = 0

    def send_again(self) -> None:
        """Send the chunk again: it was lost with the old connection."""
        self.is_due, self.patience = True, 1


@dataclass(slots=True)
class Progress:
    """A leader's view of one follower.

    `next_index` is above `match_index` in states probe and replicate. `transfer` is set in state snapshot only, when the leader's
    log begins too late for the follower. `in_flight` has the last index and the size of each unanswered append, in state
    replicate only; the last one ends with `next_index` - 1.
    """

    next_index: Index
    heard_at: float
    timer_restarted_at: float | None = None
    match_index: Index = 0
    acknowledged_before: Index = 0
    """What it acknowledged to this node in an earlier term, and is committed: a log that ends before it has lost entries."""
    state: ProgressState = "probe"
    probe_sent: bool = False
    in_flight: deque[tuple[Index, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    acknowledged_round: int = 0
    transfer: Transfer | None = None
    catch_up_window: int = 1
    """How many appends may be in flight while it is far behind (`window_to_catch_up`)."""
    lag_checked_index: Index = 0
    """Its lag is measured again when `match_index` has reached this; 0: not measured yet."""
    previous_lag: int = 0
    is_counted: bool = True
    """Whether its answers count for commits, reads and check-quorum (membership.py)."""
    demotion: Literal["", "differs", "lost"] = ""
    """Why this follower is not counted, if it is its log that is wrong."""
    suspect_round: int = 0
    """A refusal of this round or a later one shows that the follower lost what it acknowledged; 0: no suspicion."""
    connection_round: int = 0
    """The first round of the present connection: an answer to an earlier one may be from before the follower was restarted."""
    refused_round: int = -1
    """The newest round that the follower refused though it holds what it acknowledged; -1: none."""

    @property
    def acknowledged_index(self) -> Index:
        """What it acknowledged in this term, or in an earlier one if that is committed: it must hold all up to here."""
        return max(self.match_index, self.acknowledged_before)

    @property
    def may_lack_acknowledged(self) -> bool:
        """Whether the follower may have lost what it acknowledged: since it was connected it has refused nothing with a log that
        holds that.

        It gets no snapshot before it has refused where the log begins: the refusal shows a loss, an installed snapshot hides it.
        """
        return self.acknowledged_index > 0 and self.refused_round < self.connection_round

    def begin_connection(self, first_round: int) -> None:
        """Note a new connection: the follower may have been restarted, and have lost entries."""
        self.connection_round = first_round
        if self.transfer is not None:
            self.transfer.send_again()
            self.probe_sent = False

    def become_probe(self, next_index: Index) -> None:
        """Find where the logs agree, next at `next_index` - 1: what was sent may be lost, or was refused."""
        self.state, self.transfer = "probe", None
        self.probe_sent = False
        self.next_index = next_index
        self.forget_in_flight()

    def become_replicate(self, next_index: Index) -> None:
        """Send entries from `next_index` on, ahead of the replies: the logs agree before it."""
        self.state, self.transfer = "replicate", None
        self.next_index = next_index
        self.forget_in_flight()
        self.catch_up_window, self.lag_checked_index = 1, 0

    def become_snapshot(self, snapshot: SnapshotMeta) -> None:
        """Send `snapshot`, from its beginning: the next entry is no longer in the log (Raft 7)."""
        self.state, self.transfer = "snapshot", Transfer(snapshot)
        self.probe_sent = False
        self.forget_in_flight()

    def resume(self, match_index: Index) -> None:
        """Continue with entries: the follower's disk holds the leader's log up to `match_index`."""
        self.match_index = max(self.match_index, match_index)
        self.suspect_round = 0
        self.become_replicate(self.match_index + 1)

    def sent(self, last: Index, size: int) -> None:
        """Record that the entries from `next_index` to `last` were sent; `size` is that of their commands, in bytes."""
        self.in_flight.append((last, size))
        self.in_flight_bytes += size
        self.next_index = last + 1

    def forget_acknowledged(self) -> None:
        """Remove acknowledged appends (up to `match_index`) from the window."""
        while self.in_flight and self.in_flight[0][0] <= self.match_index:
            self.in_flight_bytes -= self.in_flight.popleft()[1]

    def forget_in_flight(self) -> None:
        """Empty the window: what was sent may be lost."""
        self.in_flight.clear()
        self.in_flight_bytes = 0

    def is_far_behind(self, last_index: Index) -> bool:
        """Return whether the unsent entries are more than twice those in flight: a pause of the replies leaves fewer."""
        return last_index + 1 - self.next_index > 2 * (self.next_index - 1 - self.match_index)

    def window_to_catch_up(self, last_index: Index, pipeline: Pipeline) -> int:
        """Return how many appends may be in flight to a follower that is far behind: one, or as many as it takes to catch up.

        After eight appends, and at least two round trips, its lag is measured again; if it is not smaller, the window is
        doubled. On a link with a short round trip one append at a time is enough.
        """
        if self.match_index >= self.lag_checked_index:
            lacks = last_index - self.match_index
            if self.lag_checked_index and lacks >= self.previous_lag:
                self.catch_up_window = min(2 * self.catch_up_window, pipeline.window_appends)
            self.previous_lag = lacks
            appends = max(LAG_APPENDS, 2 * self.catch_up_window)
            self.lag_checked_index = self.match_index + appends * pipeline.catch_up_entries
        return self.catch_up_window
