"""Ring 2 scales the product's bounds down; a seed leaves them as they were."""

from random import Random

from bargetrio.kv import store
from bargetrio.kv.commands import Stored
from bargetrio.protocol.requests import List
from bargetrio.raft.progress import PIPELINE
from bargetrio.simulator.lists import page_of
from bargetrio.simulator.scale import scaled
from bargetrio.simulator.stack.scale import STACK_SCALED
from bargetrio.simulator.stack.seed import run
from bargetrio.simulator.stack.stack import Stack

SMALL = frozenset({"small_batches"})


def scaled_seed() -> int:
    """Return a seed whose bounds are scaled down."""
    return next(seed for seed in range(100) if Stack(seed, 3, SMALL).is_small)


def now() -> list[int]:
    return [getattr(module, name) for module, name, _ in STACK_SCALED]


def test_the_bounds_are_drawn_for_a_seed_and_put_back() -> None:
    """Also where a seed fails."""
    before = now()
    with scaled(Random(1), STACK_SCALED, chance=1.0):
        assert now() != before
    assert now() == before
    run(scaled_seed(), 3, SMALL)
    assert now() == before


def test_what_a_leader_sends_ahead_is_handed_in_with_the_settings() -> None:
    """Without the kind it is the product's."""
    stack = Stack(scaled_seed(), 3, SMALL)
    assert stack.pipeline.batch_bytes < PIPELINE.batch_bytes and stack.pipeline.window_bytes < PIPELINE.window_bytes
    assert Stack(stack.seed, 3, frozenset()).pipeline == PIPELINE


def test_small_bounds_in_bytes_are_reached() -> None:
    """By the plain traffic of a few seeds."""
    reached = set[str]()
    for seed in [seed for seed in range(10) if Stack(seed, 3, SMALL).is_small][:4]:
        result = run(seed, 3, SMALL)
        assert result.failure is None
        reached |= {goal for goal, count in result.goals.items() if count}
    assert {"page_cut_by_bytes", "slice_cut_by_bytes"} <= reached


def test_the_judge_of_pages_ends_them_by_size_like_the_store() -> None:
    """The first item always comes, however large it is."""
    values = {"a": "12345678", "b": "1", "c": "1", "d": ""}
    state = {key: Stored(value, 1, False) for key, value in values.items()}
    shown = store.Store.of(state, 4)
    for most in range(12):
        with scaled(Random(0), ((store, "PAGE_BYTES", (most,)),), chance=1.0):
            for keys_only in (False, True):
                items, after = shown.items("", "", 3, keys_only=keys_only)
                asked = List(id=0, prefix="", after="", limit=3, keys_only=keys_only)
                assert (tuple(items), after) == page_of(state, asked)
