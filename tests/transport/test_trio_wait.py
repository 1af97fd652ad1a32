"""Who waits in trio's place: one at a time, and only where trio's parts are as we know them."""

import sys

import pytest
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from bargetrio.transport.trio_wait import borrow


async def test_the_installed_trio_lends_its_waiting() -> None:
    """If this fails after trio was renewed, nodes only became slower: look where it keeps epoll and runnable tasks now."""
    with borrow() as wait:
        assert wait is not None
        assert wait.descriptor >= 0


async def test_it_is_lent_to_one_at_a_time() -> None:
    """And to the next when it was given back, also after an error."""
    with pytest.raises(KeyError), borrow() as wait:
        assert wait is not None
        with borrow() as second:
            assert second is None
        with borrow() as third:
            assert third is None
        raise KeyError
    with borrow() as again:
        assert again is not None


async def test_it_tells_whether_a_task_can_run() -> None:
    """The one that asks is running, and so doesn't count."""
    with borrow() as wait:
        assert wait is not None
        assert not wait.has_tasks()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            assert wait.has_tasks()


@pytest.mark.parametrize("part", ["io_manager", "runq", "is_guest"])
async def test_a_trio_that_keeps_its_parts_elsewhere_lends_nothing(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The borrower goes on as a task."""

    class Runner:
        """All parts but one."""

        def __getattr__(self, name: str) -> object:
            if name == part:
                raise AttributeError(name)
            return getattr(GLOBAL_RUN_CONTEXT.runner, name)

    monkeypatch.setattr("bargetrio.transport.trio_wait._find_runner", Runner)
    with borrow() as wait:
        assert wait is None


async def test_a_trio_without_the_name_we_know_lends_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is no reason not to start."""
    monkeypatch.setitem(sys.modules, "trio._core._run", None)
    with borrow() as wait:
        assert wait is None
