"""A client that two processes or two threads have: each gets the answers to what it asked."""

import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from bargetrio.client import BargeError, Client
from tests.client.servers import BadServer
from tests.stories.daemon import Daemon

Make = Callable[[Daemon], Client]
MAKES: dict[str, Make] = {
    "native": lambda daemon: Client(list(daemon.addresses.values()), timeout_s=10),
    "rest": lambda daemon: Client([], apis=[daemon.api], timeout_s=10),
}
each_way = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def in_child(work: Callable[[], object]) -> tuple[int, int]:
    """Fork; do the work in the child; return (pid, pipe) to give to `result_of`."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            signal.alarm(30)  # a child that hangs is ended
            try:
                text = json.dumps(work())
            except Exception as problem:
                text = json.dumps(f"{type(problem).__name__}: {problem}")
            os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    return pid, read


def result_of(child: tuple[int, int]) -> object:
    """Wait for the child; return what its work came to."""
    pid, read = child
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else "the child was ended"


def put_in_vain(barge: Client, key: str) -> None:
    """Write to a server that does not read."""
    with suppress(BargeError):
        barge.put(key, "1")


@each_way
def test_after_a_fork_each_process_gets_its_own_answers(daemon: Daemon, make: Make) -> None:
    """Both ask at once, again and again, and then their children: reads, writes and lists."""
    with make(daemon) as barge:
        for name in ("pa", "ch"):
            for number in range(5):
                barge.put(f"{name}{number}", f"{name} value {number}")

        def ask(name: str) -> list[str | None]:
            found = [barge.get(f"{name}{number % 5}").value for number in range(20)]
            found += [str(barge.put(f"{name}0", f"{name} value 0").key), barge.items(name).items[0].key]
            return found

        def wanted(name: str) -> list[str]:
            return [f"{name} value {number % 5}" for number in range(20)] + [f"{name}0", f"{name}0"]

        for _ in range(10):
            child = in_child(lambda: [ask("ch"), result_of(in_child(lambda: ask("ch")))])
            here = ask("pa")
            assert result_of(child) == [wanted("ch")] * 2
            assert here == wanted("pa")


def test_a_fork_in_the_middle_of_another_thread_s_request(daemon: Daemon) -> None:
    """Its lock is taken and its stream is being read, by a thread that the child has not: the child asks all the same."""
    with BadServer("native", None) as silent, Client([silent.address, *daemon.addresses.values()], timeout_s=6) as barge:
        thread = threading.Thread(target=put_in_vain, args=(barge, "stuck"))
        thread.start()
        assert silent.heard.wait(10)
        child = in_child(lambda: barge.put("from-the-child", "1").key)
        assert result_of(child) == "from-the-child"
        thread.join()


def test_a_child_that_ends_takes_nothing_from_its_parent(daemon: Daemon) -> None:
    """Its close, and the end of its process, leave the parent's connection as it was."""
    with MAKES["native"](daemon) as barge:
        barge.put("mine", "1")

        def close() -> str:
            barge.close()
            return "closed"

        assert result_of(in_child(close)) == "closed"
        assert barge.get("mine").value == "1"


@each_way
def test_threads_share_a_client(daemon: Daemon, make: Make) -> None:
    """Eight at once; each key's value is that key's."""
    wrong: list[object] = []
    with make(daemon) as barge:

        def work(number: int) -> None:
            try:
                for round_ in range(15):
                    key = f"thread-{number}-{round_}"
                    index = barge.put(key, key).index
                    found = barge.get(key)
                    if (found.key, found.value, found.index) != (key, key, index):
                        wrong.append(found)
            except Exception as problem:
                wrong.append(problem)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_thread_that_waits_for_another_s_request_gives_up_in_time() -> None:
    """Nothing of its own was asked: overloaded, and not applied."""
    with BadServer("native", None) as silent, Client([silent.address], timeout_s=1.5) as barge:
        thread = threading.Thread(target=put_in_vain, args=(barge, "first"))
        thread.start()
        assert silent.heard.wait(10)
        barge._keys._timeout_s = 0.1
        with pytest.raises(BargeError) as caught:
            barge.put("second", "2")
        assert (caught.value.code, caught.value.applied) == ("overloaded", False)
        thread.join()
        assert len(silent.asked) == 1


def test_what_an_exception_broke_off_is_followed_by_a_new_connection() -> None:
    """A time limit's signal handler (celery, pytest-timeout) raises in the middle of a request: half of it may have left."""

    def time_is_up(*_: object) -> None:
        raise LookupError("time is up")

    before = signal.signal(signal.SIGALRM, time_is_up)
    try:
        with BadServer("native", None) as server, Client([server.address], timeout_s=1) as barge:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(LookupError):
                barge.put("first", "1")
            put_in_vain(barge, "second")
            assert [json.loads(line)["key"] for line in server.asked] == ["first", "second"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
