"""One seed: a cluster, clients and faults for 20 simulated seconds, then all heals, and within 10 more it must be whole again.

Whatever breaks a rule ends the seed with a Failure that names the rule. The same seed gives the same trace hash in every process.
"""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from bargetrio.protocol.events import Event
from bargetrio.raft.errors import ConsensusViolation, LogsDisagree
from bargetrio.simulator.cluster import LATE_QUIET_S, QUIET_S, SimulatedCluster
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.memory import Breach, Excused
from bargetrio.simulator.narrow import NarrowLinkStage
from bargetrio.simulator.referee import TimedFact
from bargetrio.simulator.scale import scaled
from bargetrio.storage.errors import DamagedLog, DamagedSnapshot


class Failure(Struct, frozen=True, kw_only=True):
    """A broken rule: which, when, how."""

    rule: str
    text: str
    at: float


class Result(Struct, frozen=True, kw_only=True):
    """The result of a seed. `trace` is the hash of all facts; facts and history are there if they were asked for.

    `drawn` are the kinds of fault that the seed draws by itself, `kinds` those of them that were allowed.
    """

    seed: int
    nodes: int
    drawn: tuple[str, ...]
    kinds: tuple[str, ...]
    failure: Failure | None
    trace: str
    simulated_s: float
    steps: int
    operations: int
    unknown: int
    committed: int
    goals: dict[str, int]
    facts: list[TimedFact] = []
    events: list[Event] = []
    """Ring 2 has its events from the recorder itself."""
    history: list[Operation] = []


def _play(cluster: SimulatedCluster) -> None:
    """Run to the end; raise Breach, ConsensusViolation, DamagedLog or DamagedSnapshot."""
    plan = cluster.plan
    cluster.go_on(plan.clients_until)
    quiet_s = LATE_QUIET_S if plan.late_disks else QUIET_S
    cluster.come_to_rest()
    cluster.go_on(cluster.world.now + quiet_s)
    if plan.narrow_end is not None:
        cluster.check_quiet()  # the stage starts all nodes again
        cluster.nemesis.heal_disks()
        NarrowLinkStage(cluster, plan.narrow_end).run()
        cluster.go_on(cluster.world.now + quiet_s)
    cluster.judge()


@contextmanager
def _without_collection() -> Iterator[None]:
    """Disable garbage collection: a seed makes many objects and hardly any cycles, and collections took 2 % of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_without_collection()
def run(seed: int, nodes: int, allowed: frozenset[str] | None = None, *, keep: bool = False) -> Result:
    """Run one seed; with `keep` the result holds every fact and the clients' history."""
    cluster = SimulatedCluster(seed, nodes, allowed, keep=keep)
    failure: Failure | None = None
    try:
        with scaled(cluster.world.random("scale")):
            _play(cluster)
    except Excused as problem:
        cluster.referee.fault(f"nothing more can be demanded: {problem}")
        cluster.referee.goals.hit("loss_excused")
    except Breach as problem:
        failure = Failure(rule=problem.rule, text=str(problem), at=cluster.world.now)
    except ConsensusViolation as problem:
        if isinstance(problem, LogsDisagree) and cluster.referee.invariants.stores.altered_entry_may_win:
            cluster.referee.goals.hit("loss_excused")
        else:
            failure = Failure(rule="the core's own checks", text=str(problem), at=cluster.world.now)
    except AssertionError as problem:
        failure = Failure(rule="the core's own checks", text=f"assertion: {problem}", at=cluster.world.now)
    except (DamagedLog, DamagedSnapshot) as problem:
        failure = Failure(rule="disk remembers", text=str(problem), at=cluster.world.now)
    except Exception as problem:  # a bug is minimized and reported with its seed like any broken rule
        failure = Failure(rule="no error is raised", text=f"{type(problem).__name__}: {problem}", at=cluster.world.now)
    referee = cluster.referee
    goals: Counter[str] = referee.goals.counts
    return Result(
        seed=seed,
        nodes=nodes,
        drawn=cluster.plan.drawn,
        kinds=cluster.plan.kinds,
        failure=failure,
        trace=referee.trace,
        simulated_s=cluster.world.now,
        steps=cluster.world.steps,
        operations=len(cluster.history),
        unknown=sum(operation.effect == "unknown" for operation in cluster.history),
        committed=len(referee.invariants.committed) - 1,
        goals=dict(sorted(goals.items())),
        facts=referee.facts,
        history=cluster.history if keep else [],
    )
