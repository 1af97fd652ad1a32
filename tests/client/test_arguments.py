"""A wrong argument is a BargeError at once, whichever call and argument it is; a wrong --timeout is a wrong command line."""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import pytest
from click.testing import CliRunner

from bargetrio.cli import cli
from bargetrio.client import BargeError, Client, Faults, LinkFault
from tests.client.servers import nobody
from tests.stories.daemon import Daemon

TEXT: Final[tuple[Any, ...]] = (None, 100, 1.5, True, b"a", ["a"], {"a": 1}, object(), ("a",))
NUMBER: Final[tuple[Any, ...]] = ("1", "\ud800", 1.5, True, b"1", [1], object(), -1, 2**63, math.nan)
FLAG: Final[tuple[Any, ...]] = (None, 1, 0, "yes", "\ud800", b"", [], object())
SECONDS: Final[tuple[Any, ...]] = (
    None,
    "1",
    math.nan,
    math.inf,
    -math.inf,
    float("1e400"),
    0,
    -1,
    True,
    [],
    object(),
    10**400,
)
LEVEL: Final[tuple[Any, ...]] = (None, "fast", "\ud800", 1, True, [], object())
PLACES: Final[tuple[Any, ...]] = (
    *("127.0.0.1:1", b"127.0.0.1:1", 1, {1: "a:1"}, object()),
    *([1], [None], ["nowhere"], ["a:b"], ["a:0"], [b"a:1"], ["[::1%\n]:1"], ["[::1%" + "x" * 70 + "]:1"], ["\uff11.2:1"]),
)

FAULTS: tuple[object, ...] = (
    {"groups": [[True]]},
    {"links": [{"from": 0, "to": 1, "drop": math.nan}]},
    {"disks": [{"node": 0, "error": "\ud800"}]},
    Faults(links=[LinkFault(source=0, target=1, drop=2.0)]),
)
CASES: Final[dict[str, tuple[Callable[[Client, Any], object], tuple[Any, ...]]]] = {
    "put key": (lambda barge, wrong: barge.put(wrong, "x"), (*TEXT, "", "a\0", "\ud800", "k" * 1025)),
    "put value": (lambda barge, wrong: barge.put("a", wrong), (*(v for v in TEXT if v != b"a"), "\ud800", bytearray(b"a"))),
    "put if_index": (lambda barge, wrong: barge.put("a", "x", if_index=wrong), NUMBER),
    "put if_absent": (lambda barge, wrong: barge.put("a", "x", if_absent=wrong), FLAG),
    "get key": (lambda barge, wrong: barge.get(wrong), (*TEXT, "")),
    "get read": (lambda barge, wrong: barge.get("a", read=wrong), LEVEL),
    "delete key": (lambda barge, wrong: barge.delete(wrong), (*TEXT, "")),
    "delete if_index": (lambda barge, wrong: barge.delete("a", if_index=wrong), NUMBER),
    "items prefix": (lambda barge, wrong: barge.items(wrong), TEXT),
    "items after": (lambda barge, wrong: barge.items(after=wrong), TEXT),
    "items limit": (lambda barge, wrong: barge.items(limit=wrong), (*NUMBER, None, 0, 1001)),
    "items keys_only": (lambda barge, wrong: barge.items(keys_only=wrong), FLAG),
    "items read": (lambda barge, wrong: barge.items(read=wrong), LEVEL),
    "kill": (lambda barge, wrong: barge.kill(wrong), (*NUMBER, None)),
    "revive": (lambda barge, wrong: barge.revive(wrong), (*NUMBER, None)),
    "readmit": (lambda barge, wrong: barge.readmit(wrong), (*NUMBER, None)),
    "set_faults": (
        lambda barge, wrong: barge.set_faults(wrong),
        (None, 1, "x", [], [1], {"groups": object()}, {"a": math.nan}, {"a": {1}}, {(1, 2): 3}, *FAULTS),
    ),
    "addresses": (lambda _, wrong: Client(wrong), (*PLACES, None)),
    "apis": (lambda _, wrong: Client([], apis=wrong), PLACES),
    "cluster": (lambda _, wrong: Client([], cluster=wrong), (*TEXT, "", "c" * 201, "\ud800", "a\n")),
    "token": (
        lambda _, wrong: Client([], token=wrong),
        ("text", 1, "gr\xfc\xdfe".encode(), b"a\nb", b"", b" ", b"t" * 4097, [], object()),
    ),
    "timeout_s": (lambda _, wrong: Client([], timeout_s=wrong), SECONDS),
    "nodes_timeout_s": (lambda _, wrong: Client([], nodes_timeout_s=wrong), SECONDS),
}


@pytest.mark.parametrize("way", ["native", "rest"])
@pytest.mark.parametrize("case", CASES)
def test_a_wrong_argument_is_a_bad_request_at_once(way: str, case: str) -> None:
    """No request is sent: without a listener there would be another error."""
    call, wrong = CASES[case]
    with Client([nobody()] if way == "native" else [], apis=[nobody()], timeout_s=5) as barge:
        for value in wrong:
            with pytest.raises(BargeError) as caught:
                call(barge, value)
            assert (caught.value.code, caught.value.applied) == ("bad_request", False), value
            assert str(caught.value)


class Colour(StrEnum):
    """Text that is no plain str, as enumerations, numpy and template engines have it."""

    RED = "red"


@pytest.mark.parametrize("way", ["native", "rest"])
def test_text_of_a_subclass_of_str_is_text(daemon: Daemon, way: str) -> None:
    """It was a TypeError of the library that encodes requests."""
    nodes = list(daemon.addresses.values()) if way == "native" else []
    with Client(nodes, apis=[daemon.api], token=b"unused\n") as barge:
        index = barge.put(Colour.RED, Colour.RED).index
        assert barge.get(Colour.RED).value == "red"
        assert [item.key for item in barge.items(Colour.RED).items] == ["red"]
        assert barge.items(after=Colour.RED).items == []
        assert barge.delete(Colour.RED, if_index=index).deleted


def test_an_error_names_the_argument() -> None:
    """And what it should be."""
    with Client([nobody()]) as barge, pytest.raises(BargeError, match="key: expected str, got int"):
        barge.put(100, "x")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("command", ["get x", "put x y", "list", "leader", "status", "kill 1", "client", "log", "faults", "heal"])
@pytest.mark.parametrize("timeout", ["nan", "NaN", "inf", "-inf", "-1", "0", "1e400", "x", ""])
def test_a_wrong_timeout_is_a_wrong_command_line(command: str, timeout: str) -> None:
    """2, and no traceback."""
    result = CliRunner().invoke(cli, [*command.split(), f"--timeout={timeout}", "--endpoint", nobody()])
    assert result.exit_code == 2
    assert "--timeout" in result.stderr


WITH_NUMBERS: Final = (
    *("slow-link 0 1 nan", "slow-link 0 1 5 --drop nan", "slow-disk 0 nan", "slow-disk 0 1e400"),
    "status --watch --interval nan",
)


@pytest.mark.parametrize("words", WITH_NUMBERS)
def test_every_other_number_must_be_one_too(words: str) -> None:
    """Wherever the command line takes a fraction."""
    result = CliRunner().invoke(cli, [*words.split(), "--endpoint", nobody()])
    assert result.exit_code == 2
