"""`list --all` and `keys --all`: a page after the other."""

from typing import Any

import pytest

from bargetrio.cli.keys import walk
from bargetrio.client.client import Client
from bargetrio.protocol.requests import Item, List, ListAnswer
from tests.client.fakes import FakeBarge


def test_all_keys_come_a_page_after_the_other() -> None:
    """Each key once, in order; without --all one page, and behind which key there are more."""
    fake = FakeBarge()
    names = [f"{number:04}" for number in range(2500)]
    for name in names:
        fake.put(name, "x")
    for keys_only, sizes in ((True, [1000, 1000, 500]), (False, [100] * 25)):  # values may be large
        pages = list(walk(fake, "", "", 100, "linearizable", everything=True, keys_only=keys_only))
        assert [len(page.items) for page in pages] == sizes
        assert [item.key for page in pages for item in page.items] == names
    (page,) = walk(fake, "00", "0009", 20, "linearizable", everything=False, keys_only=True)
    assert ([item.key for item in page.items], page.next) == (names[10:30], "0029")


class ShortPages:
    """A node of these keys whose answers are short, because its values are long; each shows a later moment."""

    def __init__(self, names: list[str], most: int) -> None:
        self._names = names
        self._most = most
        self.asked: list[int] = []

    def execute(self, request: List, answer_type: type[Any]) -> ListAnswer:
        self.asked.append(request.limit)
        behind = [name for name in self._names if name > request.after]
        shown = behind[: min(request.limit, self._most)]
        after = shown[-1] if len(shown) < len(behind) else None
        return ListAnswer(id=0, items=[Item(key=name, index=1) for name in shown], next=after, index=10 * len(self.asked))


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 9, 10, 11])
def test_a_list_in_several_answers_is_one_page(limit: int) -> None:
    """Never more than was asked for, each key once, behind which there are more, and the oldest moment that it shows."""
    names = [f"k{number:02}" for number in range(10)]
    client = Client(["127.0.0.1:1"])
    keys: Any = ShortPages(names, 3)
    client._keys = keys
    found = client.items(limit=limit)
    assert [item.key for item in found.items] == names[:limit]
    assert found.next == (names[limit - 1] if limit < len(names) else None)
    assert found.index == 10
    assert keys.asked == [limit - done for done in range(0, min(limit, len(names)), 3)]
