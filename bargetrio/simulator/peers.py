"""What one life of a simulated server exchanges with its peers: it checks their hellos and messages, and posts its own."""

from collections import Counter
from collections.abc import Callable
from typing import Generic

from bargetrio.raft.checks import check_message
from bargetrio.raft.core import Core
from bargetrio.raft.messages import Introduction, Message, NodeId, sender
from bargetrio.raft.standing import Standing, as_stated
from bargetrio.replica.hellos import HelloValidator
from bargetrio.replica.inbox import Inbox
from bargetrio.simulator.observer import S, Watcher
from bargetrio.simulator.timed_steps import TimedSteps

Post = Callable[[NodeId, NodeId, Message, Standing], None]
"""Sends a message from a node to another one, by a connection that began with this standing."""


class _Hello:
    """What a peer's connection began with, whether it is refused by now, and the last refusal that was reported."""

    def __init__(self, standing: Standing, refusal: Callable[[], str]) -> None:
        self.standing = standing
        self.refusal = refusal
        self.reported = ""


class Peers(Generic[S]):
    """Implements `replica.ports.Outbox`. `node_ids` is the life's list of nodes, which may be a wrong one.

    With a wrong list a peer's message may be malformed, which closes the connection; with the right one that is a bug.
    """

    def __init__(
        self,
        server: S,
        watcher: Watcher[S],
        *,
        core: Core,
        inbox: Inbox,
        hello_validator: HelloValidator,
        steps: TimedSteps[S],
        post: Post,
        node_ids: tuple[NodeId, ...],
        is_list_wrong: bool,
    ) -> None:
        self._server = server
        self._watcher = watcher
        self._core = core
        self._inbox = inbox
        self._hello_validator = hello_validator
        self._steps = steps
        self._post = post
        self._node_ids = node_ids
        self._is_list_wrong = is_list_wrong
        self._links_up: Counter[NodeId] = Counter()
        self._stated: tuple[Standing, Standing] | None = None
        """The last standing, and the form in which hellos state it."""
        self._hellos: dict[NodeId, _Hello] = {}
        """Each peer's last one."""
        self._is_over = False

    def end(self) -> None:
        """The life has ended."""
        self._is_over = True

    # -- input -----------------------------------------------------------------------------------------------------------

    def take_message(self, message: Message, standing: Standing) -> None:
        """Take a message of a peer with this standing, unless that is refused."""
        core, peer = self._core, sender(message)
        if not self._is_welcome(peer, standing):
            is_answered = not isinstance(message, Introduction) or message.asks
            if is_answered:  # the answer to a hello has our standing even so
                stated = self._stated_standing()
                answer = Introduction(term=core.current_term, node_id=core.node_id, standing=stated, asks=False)
                self._post(core.node_id, peer, answer, stated)
            return
        try:
            check_message(message, core.members, core.current_term)  # as node/peers.py does
        except ValueError as problem:
            if self._is_list_wrong:
                return
            raise AssertionError(f"node {peer} sent a malformed message: {problem}") from None
        if self._watcher.expects:
            self._watcher.message_received(self._server, message)
        self._steps.take_message(message)

    def _is_welcome(self, peer: NodeId, standing: Standing) -> bool:
        """Check the standing with which the connection began, and again when the members' stores have changed."""
        hello = self._hellos.get(peer)
        if hello is None or hello.standing is not standing:
            self._hello_validator.validate(peer, standing)
            self._steps.wake()
            if peer not in self._node_ids:  # refused in any case, when its standing was noted (transport/handshake.py)
                self._hellos[peer] = _Hello(standing, lambda: "is not a peer")
                return False
            hello = self._hellos[peer] = _Hello(standing, self._hello_validator.revalidator(peer, standing))
        refusal = hello.refusal()
        if refusal != hello.reported:
            hello.reported = refusal
            if refusal:
                self._watcher.refused(self._server, peer, refusal)
        return not refusal

    def bytes_come(self, peer: NodeId) -> None:
        """Bytes of a long message of a peer's have come."""
        self._inbox.bytes_received(peer)
        self._steps.wake()

    def link_up(self, peer: NodeId) -> None:
        """A connection to a peer stands again."""
        self._links_up[peer] += 1
        self._inbox.call(lambda core, now: core.link_up(peer, now))

    # -- output: replica.ports.Outbox ------------------------------------------------------------------------------------

    def post(self, to: NodeId, message: Message) -> None:
        """Send a message to a peer."""
        assert not self._is_over, "a server that is down sends nothing"
        self._watcher.sent[type(message)](self._server, to, message)
        self._post(self._core.node_id, to, message, self._stated_standing())

    def connection(self, to: NodeId) -> int:
        """Return how often the link to this peer came up."""
        return self._links_up[to]

    def redial(self) -> None:
        """Nothing to do: each message is checked by the standing that its sender has then."""

    def _stated_standing(self) -> Standing:
        """Return what this server's hellos say at this moment: the same object as long as that does not change."""
        core = self._core
        if self._stated is None or self._stated[0] is not core.standing:
            self._stated = core.standing, as_stated(core.standing, core.members)
        return self._stated[1]
