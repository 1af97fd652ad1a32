"""One server of a seed: a pure core, the real store, the real log on a simulated disk, and the loop around them.

A step takes all that waits, as the replica's does: ended writes, messages, requests, then time. A power failure or a kill
can come at any moment, also in the middle of a write; a paused process answers nothing and its timers all fire late.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final

from bargetrio.eventlog.driver_facts import DiskFailed, DriverFact, NodeCrashed, NodeKilled, NodeRecovered
from bargetrio.kv.store import Store
from bargetrio.raft.checks import check_message
from bargetrio.raft.core import Core
from bargetrio.raft.effects import (
    Announce,
    Apply,
    Compact,
    Effect,
    LoadSnapshot,
    Persist,
    ProposalRefused,
    ProposalsUnknown,
    ReadFailed,
    ReadReady,
    ReplaceStore,
    Send,
    SendChunk,
    StoreChunk,
    TakeSnapshot,
    WriteStanding,
)
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Command, Introduction, Message, NodeId, SnapshotMeta, sender
from bargetrio.raft.records import HardState, Install, Record
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import Standing, why_refused
from bargetrio.simulator.disk import Image, SimulatedDisk
from bargetrio.simulator.observer import Ticket, Watcher
from bargetrio.simulator.plan import Plan
from bargetrio.simulator.snapshots import CLUSTER, Snapshots
from bargetrio.simulator.world import World
from bargetrio.storage.errors import DamagedLog, DamagedSnapshot, StorageError
from bargetrio.storage.wal import OpenFolder, open_folder

HEARTBEAT_S: Final = 0.05
ELECTION_S: Final = (0.3, 0.6)
EIO: Final = 5
ROOM_BYTES: Final = 100_000
ROOM_AGAIN_BYTES: Final = 150_000
ROOM_LOOK_S: Final = 1.0
"""Below so many free bytes a leader refuses writes, until there are so many more; how often it looks."""
MORE_TO_DO: Final = float("-inf")
"""A core's deadline while it has more to apply."""


class Server:
    """`core` is None while the server is down."""

    # More attributes than Python keeps in an object itself without this: 3 % of a seed's time went into looking them up.
    __slots__ = (
        *("_doom", "_ended", "_first_turns", "_in_flight", "_is_spared", "_judged", "_led", "_log", "_messages", "_offset"),
        *("_policy", "_post", "_random", "_rare", "_rate", "_requests", "_segment_bytes", "_snapshots", "_steps_done"),
        *("_stores_made", "_timer_at", "_wake_planned", "_watcher", "_world", "core", "disk", "disk_s", "is_lost", "lives"),
        *("first_start", "images", "refusal", "standings_open"),
        *("node_id", "node_ids", "paused_until", "piece_s", "reads_open", "save_s", "store", "was_damaged", "writes_open"),
        *("stood_still_s",),
        *("_all_ids", "_has_unsent", "_pipeline", "chunk_bytes", "disk_hangs_until", "readable", "_unsynced"),
    )

    def __init__(
        self,
        node_id: NodeId,
        plan: Plan,
        world: World,
        post: Callable[[NodeId, NodeId, Message, Standing], None],
        watcher: Watcher,
        has_unsent: Callable[[NodeId, NodeId], bool] = lambda source, target: False,
    ) -> None:
        self.node_id = node_id
        self.node_ids = self._all_ids = tuple(range(plan.nodes))
        self.disk = SimulatedDisk(world.random(f"disk {node_id}"))
        self.disk.gives_descriptors = node_id in plan.kernel_synced
        self.core: Core | None = None
        self.store = Store()
        self.lives = 0
        self.is_lost = False
        self.first_start = plan.first_starts[node_id]
        """Before that moment this server has never been there."""
        self.refusal = ""
        """Why the folder could not be opened."""
        self.images: list[Image] = []
        """Copies of its folder that somebody keeps."""
        self.paused_until = 0.0
        self.stood_still_s = 0.0
        """Seconds of all pauses so far."""
        self._first_turns: list[float] = []
        """When each peer's reader gets its first turn after the pause."""
        self.disk_s = plan.disk_s[node_id]
        self.disk_hangs_until = 0.0
        """Until then no write ends."""
        self.save_s, self.piece_s = plan.save_s[node_id], plan.piece_s[node_id]
        self.was_damaged = ""
        self.reads_open = self.writes_open = self.standings_open = 0
        """What this life's core was asked and has not answered."""
        self._world = world
        self._post = post
        self._watcher = watcher
        self._random: Random = world.random(f"server {node_id}")
        self._rate = plan.clock_rates[node_id]
        self._offset = self._random.uniform(0, 1000)
        self._segment_bytes = self._random.choice((2048, 8192, 32768))
        self._policy = plan.snapshot_policies[node_id]
        self._pipeline = plan.pipeline
        self._has_unsent = has_unsent
        self.chunk_bytes = plan.chunk_bytes
        self.readable: dict[SnapshotMeta, int] = {}
        """Snapshots whose files end too early for who reads them to send them, and where."""
        self._snapshots: Snapshots | None = None
        self._log: OpenFolder | None = None
        self._messages: deque[Message] = deque()
        self._requests: deque[tuple[Ticket, Command | None]] = deque()
        self._ended: deque[tuple[Persist, OSError | None]] = deque()
        self._steps_done: deque[Callable[[Core, float], None]] = deque()
        self._in_flight: Persist | None = None
        self._unsynced: int | None = None
        """The file to be synced, when the write in flight is written and only its sync is missing."""
        self._wake_planned = False
        self._led = False
        self._is_spared = False
        self._doom: tuple[bool, Callable[[Server], None]] | None = None
        self._timer_at = float("inf")
        self._stores_made = 0
        self._judged: dict[NodeId, tuple[Any, ...]] = {}
        """What each peer's last hello was judged by, and the verdict."""
        self._rare: dict[type[Effect], Callable[[Core, Any], None]] = {
            Persist: self._begin_write,
            Apply: self._apply,
            ReadReady: self._serve_reads,
            ReadFailed: self._refuse_reads,
            ProposalRefused: self._refuse_proposal,
            ProposalsUnknown: self._give_up_proposals,
            WriteStanding: self._begin_standing,
            ReplaceStore: self._begin_standing,
            **dict.fromkeys((TakeSnapshot, Compact, SendChunk, StoreChunk, LoadSnapshot), self._begin_for_snapshots),
        }
        """What is done with an effect that is no fact and no message, one in ten, by its kind."""

    @property
    def store_id(self) -> str:
        """Which store this server speaks for; "" while it is down."""
        return "" if self.core is None else self.core.standing.store

    @property
    def was_superseded(self) -> bool:
        """Whether this life began with a snapshot newer than the log."""
        return self._log is not None and self._log.was_superseded

    @property
    def is_syncing(self) -> bool:
        """Whether a write is written, and its sync, a step of its own, has not ended."""
        return self._unsynced is not None

    @property
    def is_saving(self) -> bool:
        """Whether a snapshot is being saved."""
        return self._snapshots is not None and self._snapshots.is_saving

    @property
    def snapshots(self) -> Snapshots:
        """What is under way of snapshots in this life."""
        assert self._snapshots is not None
        return self._snapshots

    @property
    def local_now(self) -> float:
        """The time on this server's own clock, which may run too fast or too slow."""
        return self._offset + self._rate * self._world.now

    # -- life and death --------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Recover and begin; return False if the disk does not let us, to be tried again later."""
        assert self.core is None and not self.is_lost
        store = Store()
        try:
            log = open_folder(
                self.disk,
                CLUSTER,
                self.node_id,
                self.make_store_id,
                members=self.node_ids,
                load=store.load,
                segment_bytes=self._segment_bytes,
            )
        except (DamagedLog, DamagedSnapshot) as problem:
            self.was_damaged = str(problem)
            raise
        except StorageError as problem:
            self.refusal = str(problem)
            return False
        self.refusal = ""
        self.lives += 1
        self._log = log
        self.store = store
        core = Core(
            node_id=self.node_id,
            node_ids=self.node_ids,
            remembered=log.remembered,
            heartbeat_s=HEARTBEAT_S,
            election_s=ELECTION_S,
            random=self._random,
            now=self.local_now,
            snapshot_policy=self._policy,
            pipeline=self._pipeline,
            has_unsent=lambda peer: self._has_unsent(self.node_id, peer),
            standing=log.standing,
        )
        self._judged.clear()
        store.last_index = core.last_applied
        self.core = core
        self._snapshots = Snapshots(self, self._world, log, self._random)
        self._watcher.recovered(self)
        self._tell(
            NodeRecovered(
                term=core.current_term,
                index=core.log.last_index,
                voted_for=core.voted_for,
                seconds=0.0,
                repaired=log.repaired,
                snapshot=core.last_applied,
                store=core.standing.store,
            )
        )
        self._wake()
        return True

    def crash(self, *, power: bool) -> None:
        """End in the middle of whatever is going on; with `power` the disk forgets what was not synced."""
        if self.core is None:
            return
        self._watcher.crashing(self, writing=self._in_flight is not None)
        self._die(power=power)
        self._tell(NodeKilled())

    def crash_in_next_write(self, power: bool, then: Callable[["Server"], None]) -> None:
        """Crash while the next write is in flight, then call `then`; unless spared before."""
        self._doom = power, then
        self._is_spared = False

    def spare(self) -> None:
        """Forget about the crash that was planned."""
        self._doom = None
        self._is_spared = True

    def lose_for_good(self) -> None:
        """Never come back."""
        self.crash(power=True)
        self.is_lost = True

    def lose_disk(self) -> None:
        """The machine ends, and its disk with it; an empty one is in its place when it starts again.

        Who sets it up names all nodes: an empty folder whose list is its own node alone rightly begins a cluster of one.
        """
        self.crash(power=True)
        self.disk.lose()
        self.node_ids = self._all_ids
        self._watcher.disk_lost(self)

    def keep_image(self) -> None:
        """Somebody makes a copy of the folder as it is on the disk."""
        self.images.append(self.disk.image())
        self._watcher.image_kept(self)

    def put_back(self, number: int) -> None:
        """The process ends, and a copy that was kept takes the folder's place."""
        self.crash(power=False)
        self.disk.put_back(self.images[number])
        self._watcher.put_back(self, number)

    def pause(self, seconds: float) -> None:
        """Stand still: nothing is read, sent or noticed; what comes meanwhile waits in the sockets.

        Afterwards each connection's reader gets its turn by chance, and time may be looked at before any of them.
        """
        until = self._world.now + seconds
        if self.core is not None and until > self.paused_until:
            self.stood_still_s += until - max(self._world.now, self.paused_until)
            self.paused_until = until
            self._first_turns = [until + self._random.random() * 0.003 for _ in self.node_ids]
            self._world.at(until, self._resume, self.lives)

    def _resume(self, life: int) -> None:
        if life == self.lives and self._random.random() < 0.5:
            self._wake()

    def _meet_doom(self, life: int, power: bool, then: Callable[["Server"], None]) -> None:
        if life == self.lives and self.core is not None and not self._is_spared:
            self.crash(power=power)
            then(self)

    def _die(self, *, power: bool) -> None:
        self._watcher.outcomes.crashed(self.node_id)
        if self._in_flight is not None and self._log is not None:
            self._break_off(self._log, self._in_flight)
        elif self._snapshots is not None:
            self._snapshots.break_off()
        if power:
            self._watcher.power_failed(self, lied=self.disk.crash())
        else:
            self.disk.end_process()
        self.core = None
        self._log = None
        self._in_flight = self._unsynced = None
        self._snapshots = None
        self.paused_until = 0.0
        self.reads_open = self.writes_open = self.standings_open = 0
        for queue in (self._messages, self._requests, self._ended, self._steps_done):
            queue.clear()

    def _break_off(self, log: OpenFolder, persist: Persist) -> None:
        """Let the write in flight get as far as chance has it: not begun, between two calls, or done and not yet told."""
        if self._unsynced is not None:
            if self._random.random() < 0.4:
                with suppress(OSError):
                    self.disk.sync_descriptor(self._unsynced)
            self._settle(persist)
            return
        installs = any(isinstance(record, Install) for record in persist.records)
        calls = self._random.randint(1, 18) if installs else self._random.choice((1, 2, 2, 2, 3, 4))
        self.disk.unplugged_at = self.disk.calls + calls
        with suppress(OSError):
            log.write(persist.records)
        self._settle(persist)

    # -- what comes in ---------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing | None:
        """What this server's hellos say at this moment; None while it is down."""
        return None if self.core is None else self.core.standing

    def _is_welcome(self, core: Core, peer: NodeId, standing: Standing) -> bool:
        """Judge what the connection began with, anew only when one of the two sides has changed."""
        judged = self._judged.get(peer)
        if judged is not None and judged[0] is standing and judged[1] is core.configuration and judged[2] is core.standing:
            return bool(judged[3])
        if judged is None or judged[0] is not standing:
            self._steps_done.append(lambda core, now: core.hello_received(peer, standing, now))
            self._wake()
        refusal = why_refused(core.standing, core.configuration, peer, standing, core.members)
        if refusal:
            self._watcher.refused(self, peer, refusal)
        is_welcome = not refusal
        self._judged[peer] = (standing, core.configuration, core.standing, is_welcome)
        return is_welcome

    def take_message(self, message: Message, standing: Standing) -> None:
        """A peer with this standing said this; a server that is down hears nothing, nor who is not welcome."""
        world, core = self._world, self.core
        if world.now < self.paused_until:
            world.at(self._first_turns[sender(message)], self.take_message, message, standing)
        elif core is not None and not self._is_welcome(core, sender(message), standing):
            if not isinstance(message, Introduction) or message.asks:  # the answer to a hello tells our standing all the same
                answer = Introduction(term=core.current_term, node_id=self.node_id, standing=core.standing, asks=False)
                self._post(self.node_id, sender(message), answer, core.standing)
        elif core is not None:
            try:
                check_message(message, core.members, core.current_term)  # as node/peers.py does
            except ValueError as problem:
                raise AssertionError(f"node {sender(message)} sent a malformed message: {problem}") from None
            if self._watcher.expects:
                self._watcher.arrived(self, message)
            if not self._wake_planned and world.takes_next_step():  # as in _wake_last; where no turn is planned, nothing waits
                self._pass(core, message)
            else:
                self._messages.append(message)
                self._wake()

    def take_request(self, ticket: Ticket, command: Command | None) -> bool:
        """Take a client's write, or its read (None); return False if nobody is here."""
        if self.core is None:
            return False
        if command is None:
            self._watcher.read_asked(ticket)
        if self._world.now < self.paused_until:
            self._world.at(self.paused_until + self._random.random() * 0.003, self._queue_request, self.lives, ticket, command)
        else:
            self._queue_request(self.lives, ticket, command)
        return True

    def _queue_request(self, life: int, ticket: Ticket, command: Command | None) -> None:
        if life == self.lives and self.core is not None:
            self._requests.append((ticket, command))
            self._wake_last()

    def bytes_come(self, peer: NodeId) -> None:
        """Bytes of a long message of a peer's have come; a server that stands still notices nothing."""
        if self._world.now >= self.paused_until:
            self.step_done(lambda core, now: core.bytes_received(peer, now))

    def link_up(self, peer: NodeId) -> None:
        """A connection to a peer stands again."""
        self.step_done(lambda core, now: core.link_up(peer, now))

    def ask_for_snapshot(self) -> None:
        """Somebody wants one."""
        self.step_done(lambda core, now: core.take_snapshot())

    # -- what its disk says of its place -----------------------------------------------------------------------------------

    def make_store_id(self) -> str:
        """Return an id that no folder of this node has had."""
        self._stores_made += 1
        return f"store-{self.node_id}-{self._stores_made}"

    def _begin_standing(self, core: Core, effect: WriteStanding | ReplaceStore) -> None:
        self.standings_open += 1
        self._world.after(self._random.uniform(*self.disk_s), self._write_standing, self.lives, effect)

    def _write_standing(self, life: int, effect: WriteStanding | ReplaceStore) -> None:
        if life != self.lives or self._log is None:
            return
        if self._world.now < self.paused_until:
            self._world.at(self.paused_until, self._write_standing, life, effect)
            return
        try:
            if isinstance(effect, ReplaceStore):
                standing = self._log.replace_store()
            else:
                standing = effect.standing
                self._log.write_standing(standing)
        except OSError as problem:
            self.disk_failed(problem)
            return
        self._watcher.standing_written(self, standing)

        def then(core: Core, now: float) -> None:
            self.standings_open -= 1
            core.standing_written(standing, now)

        self.step_done(then)

    # -- what its snapshots say ------------------------------------------------------------------------------------------

    def post(self, to: NodeId, message: Message) -> None:
        """Say this to a peer."""
        self._send(Send(to, message))

    def snapshot_given_up(self) -> None:
        """The disk was full, and the log goes on."""
        self._watcher.gave_up(self, "a snapshot")

    def look_at_room(self) -> None:
        """Notice whether the disk is nearly full, as a node does once a second."""
        core, free = self.core, self.disk.free_bytes()
        if core is not None and self._world.now >= self.paused_until:
            core.lacks_room = free < (ROOM_AGAIN_BYTES if core.lacks_room else ROOM_BYTES)
        self._world.after(ROOM_LOOK_S, self.look_at_room)

    def snapshot_lasts(self, snapshot: SnapshotMeta) -> None:
        """A snapshot of our own is on the disk."""
        self.readable.pop(snapshot, None)
        self._watcher.snapshot_saved(self, snapshot)

    def piece_missing(self, to: NodeId, snapshot: SnapshotMeta) -> None:
        """A piece that is to be sent can't be read."""
        self._watcher.piece_missing(self)
        self.step_done(lambda core, now: core.piece_missing(to, snapshot))

    def replace_store(self, store: Store) -> None:
        """A leader's snapshot is loaded."""
        self.store = store

    def step_done(self, then: Callable[[Core, float], None]) -> None:
        """Something of a snapshot has ended, and the core is to know."""
        if self.core is not None:
            self._steps_done.append(then)
            self._wake()

    # -- the loop --------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._wake_planned:
            self._wake_planned = True
            self._world.at(max(self._world.now, self.paused_until), self._turn)

    def _wake_last(self) -> None:
        """Wake, at the end of a step of the world."""
        if self._wake_planned:
            return
        if self.core is not None and self._world.now >= self.paused_until and self._world.takes_next_step():
            self._pass(self.core)
        else:
            self._wake()

    def _turn(self) -> None:
        self._wake_planned = False
        if self.core is None:
            return
        if self._world.now < self.paused_until:
            self._wake()
            return
        self._pass(self.core)

    def _on_timer(self, moment: float) -> None:
        if moment == self._timer_at:
            self._timer_at = float("inf")
            self._wake_last()

    def _pass(self, core: Core, message: Message | None = None) -> None:
        """Take all that waits, or this message if nothing else does."""
        now = self._offset + self._rate * self._world.now
        self._led = type(core.role) is Leader
        try:
            if message is not None:
                core.step(message, now)
            elif not self._take_what_waits(core, now):
                return
            core.tick(now)
            self._perform(core)
        except ConsensusViolation as problem:
            self._die(power=False)
            self._tell(NodeCrashed(reason=str(problem)))
            if not self._watcher.must_stop(self):
                raise
            return
        self._watcher.passed(self, now)
        deadline = core.next_deadline
        if deadline == MORE_TO_DO:
            self._wake()
            return
        moment = (deadline - self._offset) / self._rate + 1e-6
        if moment < self._timer_at:
            self._timer_at = moment
            self._world.at(moment, self._on_timer, moment)

    def _take_what_waits(self, core: Core, now: float) -> bool:
        """Return False if the server has ended."""
        configuration = core.configuration
        while self._ended:
            persist, failure = self._ended.popleft()
            if failure is not None:
                self.disk_failed(failure)
                return False
            for send in persist.then:
                self._send(send)
            core.persisted(persist.number, now)
        while self._steps_done:
            self._steps_done.popleft()(core, now)
        while self._messages:
            if core.configuration is not configuration:
                self._messages.clear()  # judged by the members' old stores: as the replica does
                break
            core.step(self._messages.popleft(), now)
        while self._requests:
            ticket, command = self._requests.popleft()
            if command is None:
                self.reads_open += 1
                core.read(ticket, now)
            else:
                self.writes_open += 1
                before = core.log.last_index
                core.propose(ticket, command, now)
                if core.log.last_index > before:
                    self._watcher.outcomes.proposed(self.node_id, ticket, before + 1, core.current_term)
        return True

    def _perform(self, core: Core) -> None:
        watcher = self._watcher
        for effect in core.take_effects():
            if type(effect) is Announce:
                watcher.fact(self, effect.fact)
            elif type(effect) is Send:
                to, message = effect.to, effect.message
                watcher.sent[type(message)](self, to, message)
                self._post(self.node_id, to, message, core.standing)
            else:
                self._rare[type(effect)](core, effect)

    def _begin_for_snapshots(self, core: Core, effect: TakeSnapshot | Compact | SendChunk | StoreChunk | LoadSnapshot) -> None:
        assert self._snapshots is not None
        self._snapshots.begin(effect)

    def _serve_reads(self, core: Core, effect: ReadReady) -> None:
        self.reads_open -= len(effect.tickets)
        for ticket in effect.tickets:
            self._watcher.read_served(self, _ours(ticket))
            _ours(ticket).read_at(self.store)

    def _refuse_reads(self, core: Core, effect: ReadFailed) -> None:
        if self._led:
            self._watcher.gave_up(self, "reads")
        self.reads_open -= len(effect.tickets)
        for ticket in effect.tickets:
            _ours(ticket).refused(effect.leader)

    def _refuse_proposal(self, core: Core, effect: ProposalRefused) -> None:
        if core.lacks_room and effect.reason == "overloaded":
            self._watcher.gave_up(self, "a write for lack of room")
        self._watcher.outcomes.refused(self.node_id, _ours(effect.ticket))
        self.writes_open -= 1
        if effect.reason == "overloaded" and not core.lacks_room:
            self._watcher.overloaded(self)
        _ours(effect.ticket).refused(effect.leader)

    def _give_up_proposals(self, core: Core, effect: ProposalsUnknown) -> None:
        self._watcher.gave_up(self, "writes")
        self.writes_open -= len(effect.tickets)
        for ticket in effect.tickets:
            self._watcher.outcomes.unknown(self.node_id, _ours(ticket))
            _ours(ticket).unknown()

    def _send(self, send: Send) -> None:
        assert self.core is not None
        self._watcher.sent[type(send.message)](self, send.to, send.message)
        self._post(self.node_id, send.to, send.message, self.core.standing)

    def _apply(self, core: Core, effect: Apply) -> None:
        tickets = effect.tickets
        first_ticket = effect.last - len(tickets) + 1
        if effect.first < first_ticket:
            self.store.apply_all([entry.command for entry in core.log.slice(effect.first, first_ticket - 1)], effect.first)
        for index, ticket in enumerate(tickets, first_ticket):
            entry = core.log.entry(index)
            outcome = self.store.apply(entry.command, index)
            if ticket is not None:
                self.writes_open -= 1
                self._watcher.outcomes.applied(self.node_id, _ours(ticket), outcome, index, entry.term)
                _ours(ticket).committed(outcome, index, entry.term)
        self._watcher.applied(self, effect.first, effect.last)

    def _tell(self, fact: Fact | DriverFact) -> None:
        self._watcher.fact(self, fact)

    # -- the disk --------------------------------------------------------------------------------------------------------

    def _begin_write(self, core: Core, persist: Persist) -> None:
        assert self._in_flight is None, "one write at a time"
        self._in_flight = persist
        self._watcher.writing(self, persist.records)
        if self.disk.gives_descriptors and not self._write_unsynced(persist):
            return
        seconds = self._random.uniform(*self.disk_s)
        self._world.after(seconds, self._end_write, self.lives, persist)
        if self._doom is not None:
            self._world.after(seconds * self._random.random(), self._meet_doom, self.lives, *self._doom)
            self._doom = None

    def _write_unsynced(self, persist: Persist) -> bool:
        """Write what needs no more than a line and a sync, as `node.persister.KernelPersister`; return False if it failed."""
        assert self._log is not None
        try:
            self._unsynced = self._log.write_unsynced(persist.records)
        except OSError as problem:
            self._in_flight = None
            self._ended.append((persist, problem))
            self._wake()
            return False
        return True

    def _sync(self, log: OpenFolder, descriptor: int, records: Sequence[Record]) -> None:
        """End the sync of what was written before; raise OSError."""
        try:
            self.disk.sync_descriptor(descriptor)
        except OSError as problem:
            log.note_failed(problem)
            self._watcher.sync_failed(self)
            raise
        log.note_synced(records)

    def _end_write(self, life: int, persist: Persist) -> None:
        if life != self.lives or self._log is None:
            return
        until = max(self.paused_until, self.disk_hangs_until)
        if self._world.now < until:  # the whole process stands still, its threads too, or the disk does
            self._world.at(min(until, self._world.now + 0.5), self._end_write, life, persist)  # it may heal before
            return
        descriptor, self._unsynced = self._unsynced, None
        self._in_flight = None
        failure: OSError | None = None
        try:
            if descriptor is None:
                self._log.write(persist.records)
            else:
                self._sync(self._log, descriptor, persist.records)
        except OSError as problem:
            failure = problem
        else:
            self._settle(persist)
            self._watcher.synced(self, persist.records)
        self._ended.append((persist, failure))
        self._wake_last()

    def _settle(self, persist: Persist) -> None:
        """A disk that lies lies about entries: of a vote that was lost nobody could ever tell."""
        if self.disk.lies and any(type(record) in (HardState, Install) for record in persist.records):
            self.disk.settle()

    def disk_failed(self, failure: OSError) -> None:
        """Stop serving at once; nothing is retried (BUG-51). A fault makes a disk fail, a file that is not there does not."""
        assert not isinstance(failure, FileNotFoundError), f"node {self.node_id} misses a file: {failure}"
        self._die(power=False)
        self._tell(DiskFailed(reason=failure.strerror or str(failure)))


def _ours(ticket: Any) -> Ticket:
    found: Ticket = ticket
    return found
