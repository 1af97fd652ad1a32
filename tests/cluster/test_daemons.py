"""What other daemons answer is bounded, all answers together."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trio

from bargetrio.cluster import daemons as module
from bargetrio.cluster.daemons import Daemons, Unreachable

KIB = 1024


class Slow:
    """A daemon whose answer is a JSON string of `size` characters; it ends the string when `may_end` is set."""

    def __init__(self, size: int) -> None:
        self.may_end = threading.Event()
        self._size = size
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.api = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        with suppress(OSError), sock, sock.makefile("rwb") as stream:
            while stream.readline().strip():
                pass
            stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (self._size + 2))
            stream.write(b'"' + b"x" * self._size)
            stream.flush()
            self.may_end.wait(20)
            stream.write(b'"')


@contextmanager
def slow(*sizes: int) -> Iterator[list[Slow]]:
    found = [Slow(size) for size in sizes]
    try:
        yield found
    finally:
        for one in found:
            one.may_end.set()
            one.listener.close()


async def test_answers_of_other_daemons_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is given up, with the reason; the other is read to its end, and gives its room back."""
    monkeypatch.setattr(module, "MOST_ANSWER_BYTES", 1024 * KIB)
    monkeypatch.setattr(module, "READ_BYTES", 64 * KIB)
    asking = Daemons({}, None, cluster="barge")
    answers: list[str] = []

    async def ask(api: str) -> None:
        answers.append(await asking.ask(api, "GET", "/", str, timeout_s=10))

    with slow(700 * KIB, 700 * KIB) as (first, second), trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, first.api)
            while asking._memory._used_bytes < 640 * KIB:
                await trio.sleep(0.001)
            with pytest.raises(Unreachable, match=f"{second.api} is not read: .* more than 1 MiB together"):
                await ask(second.api)
            first.may_end.set()
        assert answers == ["x" * 700 * KIB]
        second.may_end.set()
        await ask(second.api)
    assert asking._memory._used_bytes == 0
