"""One seed of ring 2: all of a daemon in virtual time, faults for 8 virtual seconds, healing, and the checks.

What must hold: the clients' history is linearizable, no acknowledged write is lost, the recorded events pass the audit, every
node comes back and has applied the same, and nothing hangs.
"""

import gc
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Final

import msgspec
import trio
import trio.testing

from bargetrio.cluster.node_link import NodeLink
from bargetrio.simulator import linearizability
from bargetrio.simulator.audit import Audit
from bargetrio.simulator.memory import Breach, Excused
from bargetrio.simulator.scale import scaled
from bargetrio.simulator.seed import Failure, Result
from bargetrio.simulator.stack.accounts import check_quiet
from bargetrio.simulator.stack.clients import CLIENTS, KEYS, BulkWriter, StackClient
from bargetrio.simulator.stack.nemesis import StackNemesis
from bargetrio.simulator.stack.processes import DIFFERS
from bargetrio.simulator.stack.readers import StackReader
from bargetrio.simulator.stack.scale import STACK_SCALED
from bargetrio.simulator.stack.stack import Stack, StackFailure
from bargetrio.web.guard import App

FAULTS_S: Final = 8.0
HEAL_S: Final = 10.0
QUIET_S: Final = 1.0
"""Time after the last answer after which nothing may wait any more."""
MOST_STEPS: Final = 3_000_000
BUG: Final = re.compile(r"[A-Z]\w+: ")
"""What ends a node begins with an exception's name if it is a bug (cluster/slots.py)."""


class _Steps(trio.abc.Instrument):
    """Counts task steps, and ends a run that loops for ever."""

    def __init__(self) -> None:
        self.count = 0
        self.scope = trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count."""
        self.count += 1
        if self.count == MOST_STEPS:
            self.scope.cancel()


async def _play(stack: Stack, steps: _Steps) -> None:
    """Run and check; raise StackFailure."""
    with steps.scope, stack.over:
        with trio.move_on_after(FAULTS_S + HEAL_S + 30) as watchdog:
            async with trio.open_nursery() as nursery:
                began = trio.current_time()
                try:
                    await _inside(stack, nursery)
                finally:
                    stack.ended_at = trio.current_time() - began
                    stack.local.stop()
                nursery.cancel_scope.cancel()
        if watchdog.cancelled_caught:
            raise StackFailure("it ends", "the run did not end in time")
    if stack.problem is not None:
        raise stack.problem
    if steps.scope.cancelled_caught:
        raise StackFailure("it ends", f"{MOST_STEPS:,} steps and no end")
    _judge(stack)


async def _inside(stack: Stack, nursery: trio.Nursery) -> None:
    app = await stack.start(nursery)
    nemesis = StackNemesis(stack)
    clients = [
        StackClient(number, stack.cluster, app, stack.random(f"client {number}"), stack.history, stack.ledger)
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.large_values = "narrow_links" in stack.kinds
    writer = BulkWriter(app, stack.random("bulk"), stack.ledger)
    links = {node_id: NodeLink(address, "stack", stack.network, nursery) for node_id, address in stack.addresses.items()}
    reader = StackReader(
        cluster=stack.cluster,
        app=app,
        links=links,
        life_of=stack.lives.__getitem__,
        random=stack.random("reader"),
        states=stack.recorder.states,
        history=stack.history,
        keys=KEYS,
        hit=stack.hit,
        slice_keys=stack.slice_keys,
    )
    end = trio.current_time() + FAULTS_S
    async with trio.open_nursery() as working:
        working.start_soon(reader.run, end + 1)
        working.start_soon(writer.run, end + 1)
        for client in clients:
            working.start_soon(client.run, end + 1)
        working.start_soon(nemesis.make_faults, app, end)
    await _come_to_rest(stack, clients[0], nemesis, app)
    stack.made["write_refused_no_room"] += sum(client.refused_no_room for client in clients)
    if stack.begun_with[0] and "restored" in stack.kinds:
        stack.made["restored_written"] += sum(one.kind == "put" and one.effect == "applied" for one in stack.history)
    stack.made["write_refused_overload"] += sum(client.refused_overload for client in clients)
    await trio.sleep(QUIET_S)
    check_quiet(stack, list(links.values()))
    reader.judge()


async def _come_to_rest(stack: Stack, client: StackClient, nemesis: StackNemesis, app: App) -> None:
    """After the healing: all nodes run, a new write, equal states, a last read of every key."""
    for node_id in stack.addresses:
        stack.disks[node_id].fail_at.clear()
        stack.disks[node_id].free_space()
        stack.work[node_id].heal()
    stack.absent.clear()
    for node_id in stack.addresses:
        await nemesis.processes.revive(node_id)
    end = trio.current_time() + HEAL_S
    written = None
    while trio.current_time() < end:
        await nemesis.take_in(app)
        if written is None or written.effect != "applied":
            written = await client.ask(KEYS[0], 0.5)
        elif stack.is_whole():
            for key in KEYS:
                if await client.ask(key, 0.0) is None:
                    raise StackFailure("it heals", f"{key} can't be read after all has healed")
            return
        await trio.sleep(0.05)
    views = [
        (view.id, view.state, view.role, view.term, view.last_log_index, view.last_applied, view.may_vote)
        for view in stack.local.views()
    ]
    raise StackFailure("it heals", f"not whole within {HEAL_S:.0f} s: {views}")


def _judge(stack: Stack) -> None:
    stack.ledger.judge(stack.recorder.commands, stack.recorder.outcomes)
    verdict = linearizability.check(stack.history)
    if not verdict.ok:
        raise StackFailure("linearizability", verdict.reason)
    contents = {node_id: node.store.items("", "", 1000, most_bytes=1 << 40) for node_id, node in stack.living.items()}
    if len({msgspec.json.encode(content) for content in contents.values()}) > 1:
        raise StackFailure("equal states", f"the nodes hold different keys: {contents}")
    for event in stack.events():
        has_altered = any(node_id == event.node for node_id, _ in stack.tails.altered)
        if event.kind == "node_crashed" and BUG.match(reason := str(event.detail["reason"])):
            if has_altered and DIFFERS in reason:
                continue
            raise StackFailure("only a disk ends a node", f"node {event.node}: {reason}")
    finding = Audit().take_all(stack.as_audited())
    if finding is not None:
        raise StackFailure(finding.rule, finding.describe())


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Let trio's scheduler draw from the seed, in a fixed order; and no garbage collection at moments of its own."""
    runner: Any = trio._core._run
    state, allowed = runner._r.getstate(), runner._ALLOW_DETERMINISTIC_SCHEDULING
    was_on = gc.isenabled()
    runner._ALLOW_DETERMINISTIC_SCHEDULING = True
    runner._r.seed(seed)
    gc.collect()  # of the seed before, whose objects hold each other
    gc.disable()
    try:
        yield
    finally:
        runner._ALLOW_DETERMINISTIC_SCHEDULING = allowed
        runner._r.setstate(state)
        if was_on:
            gc.enable()


def _innermost(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def run(seed: int, nodes: int, allowed: frozenset[str] | None = None, *, keep: bool = False) -> Result:
    """Run one seed; with `keep` the result holds events and history."""
    stack = Stack(seed, nodes, allowed)
    steps = _Steps()
    failure: Failure | None = None
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # a node whose disk was made to fail says so; here that is expected
    with deterministic(seed), scaled(stack.random("scale"), STACK_SCALED, chance=float(stack.is_small)):
        try:
            trio.run(_play, stack, steps, clock=trio.testing.MockClock(rate=0.0, autojump_threshold=0), instruments=[steps])
        except* (StackFailure, Breach) as group:
            problem = _innermost(group)
            assert isinstance(problem, (StackFailure, Breach))
            if isinstance(problem, Excused):
                stack.hit("loss_excused")
            else:
                failure = Failure(rule=problem.rule, text=str(problem), at=stack.ended_at)
        finally:
            logging.disable(level)
    events = stack.events()
    return Result(
        seed=seed,
        nodes=nodes,
        drawn=stack.drawn,
        kinds=stack.kinds,
        failure=failure,
        trace=blake2b(msgspec.json.encode((events, stack.history)), digest_size=8).hexdigest(),
        simulated_s=stack.ended_at,
        steps=steps.count,
        operations=len(stack.history),
        unknown=sum(operation.effect == "unknown" for operation in stack.history),
        committed=max((event.index or 0 for event in events if event.kind == "commit_advanced"), default=0),
        goals=stack.goals(),
        events=events if keep else [],
        history=stack.history if keep else [],
    )
