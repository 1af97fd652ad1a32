"""The log in memory: the attributes of its ends stay correct under every change."""

from random import Random

import pytest

from bargetrio.raft.log import Log
from bargetrio.raft.messages import NO_OP, Entry
from bargetrio.raft.records import LogStart


@pytest.mark.parametrize("seed", range(20))
def test_the_ends_follow_every_change(seed: int) -> None:
    """Against a plain list of (index, term)."""
    random, log, model, start = Random(seed), Log(), list[tuple[int, int]](), (0, 0)
    for _ in range(300):
        match random.choice(("append", "append", "truncate", "compact", "reset")):
            case "append":
                last, term = model[-1] if model else start
                added = [(last + place, term + random.randint(0, 1)) for place in range(1, random.randint(1, 6))]
                added = [(index, max(term for _, term in added[: place + 1])) for place, (index, _) in enumerate(added)]
                log.append(Entry(term, NO_OP) for _, term in added)
                model += added
            case "truncate" if model:
                place = random.randrange(len(model))
                log.truncate(model[place][0])
                del model[place:]
            case "compact" if model:
                place = random.randrange(len(model))
                start = model[place]
                log.compact(start[0])
                del model[: place + 1]
            case "reset" if random.random() < 0.1:
                start = (start[0] + random.randint(0, 20), start[1] + 1)
                log.reset(LogStart(index=start[0], term=start[1], digest=7))
                model.clear()
            case _:
                pass
        end = model[-1] if model else start
        assert (log.start_index, log.last_index, log.last_term) == (start[0], *end)
        assert log.last_digest == log.digest(log.last_index)
        assert all(log.holds(index, term) and not log.holds(index, term + 1) for index, term in (start, *model))
        assert log.holds(start[0] - 1, 99) and not log.holds(end[0] + 1, end[1])
