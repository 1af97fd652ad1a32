"""What waits for answers on one connection: whatever comes, goes and is given up, nothing stays behind."""

from random import Random

from bargetrio.cluster.in_flight import RequestBatch, UnansweredRequests
from bargetrio.protocol.requests import Put, PutAnswer


def test_nothing_of_a_batch_stays_when_it_has_ended() -> None:
    """Beside a naive twin: batches are answered in part, in any order, given up at any moment, or all are ended."""
    for seed in range(300):
        random, waiting = Random(seed), UnansweredRequests()
        twin: dict[int, RequestBatch] = {}
        batches: list[RequestBatch] = []
        for _ in range(40):
            what = random.random()
            if what < 0.35 or not batches:
                batch = RequestBatch([Put(id=0, key="a", value="x") for _ in range(random.randint(1, 4))])
                batches.append(batch)
                twin |= {request.id: batch for request in waiting.add(batch)}
            elif what < 0.8:
                number = random.choice(sorted(twin) or [0])
                batch_or_none, place = waiting.pop(number)
                assert batch_or_none is twin.pop(number, None)
                if batch_or_none is not None:
                    batch_or_none.take(place, PutAnswer(id=number, key="a", index=1, term=1))
            elif what < 0.97:
                batch = batches.pop(random.randrange(len(batches)))
                waiting.drop(batch)
                twin = {number: each for number, each in twin.items() if each is not batch}
            else:
                waiting.end_all()
                twin.clear()
                assert all(each.is_over for each in batches)
            assert len(waiting) == len(twin)
        for batch in batches:
            waiting.drop(batch)
        assert len(waiting) == 0
