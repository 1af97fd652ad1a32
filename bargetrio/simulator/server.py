"""One server of a seed, over all its lives: the product's replica on a simulated machine, its starts, crashes and pauses.

A power failure or a kill can come at any moment, also in the middle of a write or of a job; a paused process answers nothing and
its timers all fire late. What reaches it goes to its present life, if it has one that does not stand still.
"""

from collections.abc import Callable

from bargetrio.eventlog.host_facts import DiskFailed, HostFact, NodeCrashed, NodeKilled, NodeRecovered
from bargetrio.kv.store import Store
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Request, is_write
from bargetrio.raft.core import Core
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Message, NodeId, sender
from bargetrio.raft.standing import Standing
from bargetrio.replica.inbox import Then
from bargetrio.replica.replica import Replica, StorageFailed
from bargetrio.simulator.answers import Asker
from bargetrio.simulator.disk import Image
from bargetrio.simulator.life import Life
from bargetrio.simulator.machine import CLUSTER, Machine
from bargetrio.simulator.observer import Watcher
from bargetrio.simulator.peers import Post
from bargetrio.simulator.plan import ELECTION_S, HEARTBEAT_S, ROOM_AGAIN_BYTES, ROOM_BYTES, ROOM_POLL_S, Plan
from bargetrio.simulator.timed_steps import TimedSteps
from bargetrio.simulator.watched_core import WatchedCore
from bargetrio.simulator.world import World
from bargetrio.storage.errors import DamagedLog, DamagedSnapshot, StorageError
from bargetrio.storage.wal import OpenFolder, open_folder


class Server:
    """`core` is None while the server is down; `life` and `replica` are the present ones, or the last."""

    life: "Life[Server]"
    replica: Replica

    def __init__(
        self,
        node_id: NodeId,
        plan: Plan,
        world: World,
        post: Post,
        watcher: "Watcher[Server]",
        has_unsent: Callable[[NodeId, NodeId], bool] = lambda source, target: False,
    ) -> None:
        self.node_id = node_id
        self.node_ids = self._all_ids = tuple(range(plan.nodes))
        self.machine = Machine(node_id, plan, world)
        self.disk = self.machine.disk
        self.watcher = watcher
        self.core: Core | None = None
        self.lives = 0
        self.is_lost = False
        self.first_start = plan.first_starts[node_id]
        """The time of this server's first start."""
        self.refusal = ""
        """Why the folder could not be opened."""
        self.stood_still_s = 0.0
        """Seconds of all pauses so far."""
        self.images: list[Image] = []
        """Copies that were made of its folder."""
        self.chunk_bytes = plan.chunk_bytes
        self._plan = plan
        self.request_timeout_s = plan.request_timeout_s
        self._has_unsent: Callable[[NodeId], bool] = lambda peer: has_unsent(node_id, peer)
        self._world = world
        self._post = post
        self.steps = TimedSteps(self, watcher, machine=self.machine, failed=self._step_failed)
        self._first_turns: list[float] = []
        """When each peer's reader first runs after a pause."""
        self._is_spared = False
        self._doom: tuple[bool, Callable[[Server], None]] | None = None
        self._stores_made = 0

    # -- for the checkers ------------------------------------------------------------------------------------------------

    @property
    def is_at_rest(self) -> bool:
        """Whether no input waits for a step."""
        return not self.steps.is_planned

    @property
    def has_nothing_to_do(self) -> bool:
        """Whether it is at rest and no job of it is under way; True while it is down."""
        return self.core is None or (self.is_at_rest and not self.life.jobs.running)

    @property
    def store(self) -> Store:
        """The keys; of a server that runs."""
        return self.replica.store

    @property
    def store_id(self) -> str:
        """Which store this server speaks for; "" while it is down."""
        return "" if self.core is None else self.core.standing.store

    @property
    def was_superseded(self) -> bool:
        """Whether this life began with a snapshot newer than the log."""
        return self.life.folder.was_superseded

    @property
    def local_now(self) -> float:
        """The time on this server's own clock."""
        return self.machine.local_now

    # -- life and death --------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Recover and begin; return False if the disk does not let us, to be tried again later."""
        assert self.core is None and not self.is_lost
        store = Store()
        try:
            folder = self._open_folder(store)
        except (DamagedLog, DamagedSnapshot):
            raise
        except StorageError as problem:
            self.refusal = str(problem)
            return False
        self.refusal = ""
        self.lives += 1
        core = self._recovered_core(folder)
        store.last_index = core.last_applied
        self.life = Life(
            self,
            self.watcher,
            core=core,
            machine=self.machine,
            folder=folder,
            store=store,
            chunk_bytes=self.chunk_bytes,
            request_timeout_s=self.request_timeout_s,
            steps=self.steps,
            post=self._post,
            node_ids=self.node_ids,
            is_list_wrong=self.node_ids != self._all_ids,
            write_begun=self._on_write,
        )
        self.replica = self.life.replica
        self.core = core
        self.steps.begin(self.replica)
        self.watcher.recovered(self)
        self._record(
            NodeRecovered(
                term=core.current_term,
                index=core.log.last_index,
                voted_for=core.voted_for,
                seconds=0.0,
                repaired=folder.repaired,
                snapshot=core.last_applied,
                store=core.standing.store,
            )
        )
        self.steps.wake()
        return True

    def _open_folder(self, store: Store) -> OpenFolder:
        """Recover the folder, and the state of its snapshot into `store`; raise StorageError."""
        return open_folder(
            self.disk,
            CLUSTER,
            self.node_id,
            self.make_store_id,
            members=self.node_ids,
            load=store.load,
            segment_bytes=self.machine.segment_bytes,
        )

    def _recovered_core(self, folder: OpenFolder) -> Core:
        machine, plan = self.machine, self._plan
        return WatchedCore(
            self,
            self.watcher,
            node_id=self.node_id,
            node_ids=self.node_ids,
            remembered=folder.remembered,
            heartbeat_s=HEARTBEAT_S,
            election_s=ELECTION_S,
            random=machine.random,
            now=machine.local_now,
            snapshot_policy=plan.snapshot_policies[self.node_id],
            pipeline=plan.pipeline,
            has_unsent=self._has_unsent,
            standing=folder.standing,
        )

    def crash(self, *, power: bool) -> None:
        """End in the middle of whatever is going on; with `power` the disk forgets what was not synced."""
        if self.core is None:
            return
        self.watcher.crashing(self, writing=self.life.wal.is_writing)
        self._die(power=power)
        self._record(NodeKilled())

    def crash_in_next_write(self, power: bool, then: Callable[["Server"], None]) -> None:
        """Crash while the next write is in flight, then call `then`; unless spared before."""
        self._doom = power, then
        self._is_spared = False

    def _on_write(self, seconds: float) -> None:
        """A write of the log has begun, and takes `seconds`."""
        if self._doom is not None:
            self._world.after(seconds * self.machine.random.random(), self._meet_doom, self.lives, *self._doom)
            self._doom = None

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

        It is set up with all nodes, unless the caller gives it another list: one of its own node alone rightly begins a cluster.
        """
        self.crash(power=True)
        self.disk.lose()
        self.node_ids = self._all_ids
        self.watcher.disk_lost(self)

    def keep_image(self) -> None:
        """Make a copy of the folder as it is on the disk."""
        self.images.append(self.disk.image())
        self.watcher.image_kept(self)

    def put_back(self, number: int) -> None:
        """The process ends, and a copy that was kept takes the folder's place."""
        self.crash(power=False)
        self.disk.put_back(self.images[number])
        self.watcher.put_back(self, number)

    def pause(self, seconds: float) -> None:
        """Stand still: nothing is read, sent or noticed; what comes meanwhile waits in the sockets.

        Afterwards the connections' readers run in random order, and timers may fire before any of them.
        """
        machine = self.machine
        until = self._world.now + seconds
        if self.core is not None and until > machine.paused_until:
            self.stood_still_s += until - max(self._world.now, machine.paused_until)
            machine.paused_until = until
            self._first_turns = [until + machine.random.random() * 0.003 for _ in self._all_ids]
            self._world.at(until, self._resume, self.lives)

    def _resume(self, life: int) -> None:
        if life == self.lives and self.machine.random.random() < 0.5:
            self.steps.wake()

    def _meet_doom(self, life: int, power: bool, then: Callable[["Server"], None]) -> None:
        if life == self.lives and self.core is not None and not self._is_spared:
            self.crash(power=power)
            then(self)

    def _die(self, *, power: bool) -> None:
        life = self.life
        self.watcher.ended(self)
        is_writing = life.wal.is_writing
        life.wal.break_off()
        life.jobs.break_off(midway=not is_writing)
        if power:
            self.watcher.power_failed(self, lied=self.disk.crash())
        else:
            self.disk.end_process()
        life.replica.fence(self.local_now)
        life.jobs.close()
        self.core = None
        life.peers.end()
        self.steps.end()
        self.machine.paused_until = 0.0

    def _step_failed(self, problem: ConsensusViolation | StorageFailed) -> None:
        if isinstance(problem, StorageFailed):
            self._disk_failed(problem)
            return
        self._die(power=False)
        self._record(NodeCrashed(reason=str(problem)))
        if not self.watcher.must_stop(self):
            raise problem

    def _disk_failed(self, problem: StorageFailed) -> None:
        """Stop serving at once, as a node does (BUG-51). A fault makes a disk fail, a file that is not there does not."""
        assert not isinstance(problem.__cause__, FileNotFoundError), f"node {self.node_id} misses a file: {problem.__cause__}"
        self.replica.fail_waiting(BargeError("storage_failed", f"the disk of node {self.node_id} failed: {problem}"))
        self._die(power=False)
        self._record(DiskFailed(reason=str(problem)))

    # -- input ----------------------------------------------------------------------------------------------------------

    def take_message(self, message: Message, standing: Standing) -> None:
        """Take a message of a peer with this standing, unless this server is down or the peer is refused."""
        world = self._world
        if world.now < self.machine.paused_until:
            world.at(self._first_turns[sender(message)], self.take_message, message, standing)
        elif self.core is not None:
            self.life.peers.take_message(message, standing)

    def take_request(self, asker: Asker, request: Request) -> bool:
        """Take a client's request; return False if this server is down."""
        if self.core is None:
            return False
        if not is_write(request):
            self.watcher.read_asked(asker)
        if not self.machine.is_paused(self._queue_request, self.lives, asker, request):
            self._queue_request(self.lives, asker, request)
        return True

    def _queue_request(self, life: int, asker: Asker, request: Request) -> None:
        if life == self.lives and self.core is not None:
            self.life.session.ask(request, asker)
            self.steps.wake_last()

    def bytes_come(self, peer: NodeId) -> None:
        """Bytes of a long message of a peer's have come; a server that stands still notices nothing."""
        if self._world.now >= self.machine.paused_until and self.core is not None:
            self.life.peers.bytes_come(peer)

    def link_up(self, peer: NodeId) -> None:
        """A connection to a peer stands again."""
        if self.core is not None:
            self.life.peers.link_up(peer)

    def ask_for_snapshot(self) -> None:
        """See Replica.ask_for_snapshot; a server that is down hears nothing."""
        if self.core is not None:
            self.replica.ask_for_snapshot()

    def call(self, then: Then) -> None:
        """Have the core called in the next step."""
        if self.core is not None:
            self.replica.inbox.call(then)

    def make_store_id(self) -> str:
        """Return an id that no folder of this node has had."""
        self._stores_made += 1
        return f"store-{self.node_id}-{self._stores_made}"

    def look_at_room(self) -> None:
        """Check whether the disk is nearly full, as a node does once a second."""
        core, free = self.core, self.disk.free_bytes()
        if core is not None and self._world.now >= self.machine.paused_until:
            core.lacks_room = free < (ROOM_AGAIN_BYTES if core.lacks_room else ROOM_BYTES)
        self._world.after(ROOM_POLL_S, self.look_at_room)

    def _record(self, fact: Fact | HostFact) -> None:
        self.watcher.fact(self, fact)
