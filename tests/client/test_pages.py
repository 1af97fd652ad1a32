"""`list --all` and `keys --all`: a page after the other."""

from bargetrio.cli.keys import walk
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
