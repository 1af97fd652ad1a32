"""Validation of the library's arguments: a wrong type or number raises BargeError before any request is sent."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import MAX_INT
from bargetrio.protocol.requests import Delete, Get, List, Put
from bargetrio.protocol.secrets import token_of
from bargetrio.protocol.views import Faults

R = TypeVar("R", Put, Get, Delete, List)

LONGEST_S: Final = 1e6
"""The longest time-out, eleven days: far below what a socket takes."""


def request_of(kind: type[R], fields: Mapping[str, object]) -> R:
    """Return the request with these fields; raise BargeError(bad_request) that names a field of a wrong type.

    Subclasses of str (StrEnum, numpy.str_, markup) are converted to str.
    """
    given = {"op": kind.__struct_config__.tag, "id": 0, **fields}
    for name, value in fields.items():
        if isinstance(value, str) and type(value) is not str:
            given[name] = str.__str__(value)  # msgspec does not encode subclasses
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as problem:
        expected, _, path = str(problem).replace("`", "").partition(" - at $.")
        raise BargeError("bad_request", f"{path}: {expected[:1].lower()}{expected[1:]}") from None
    except UnicodeEncodeError as problem:
        path = next(name for name, value in given.items() if value == problem.object)
        raise BargeError("bad_request", f"{path}: this is not valid Unicode text (a lone surrogate)") from None


def faults_of(faults: Faults | dict[str, object]) -> Faults:
    """Return the faults, also from the JSON of `PUT /faults`; raise BargeError(bad_request) if malformed."""
    if not isinstance(faults, (Faults, dict)):
        raise BargeError("bad_request", f"faults are Faults or a dictionary, not {type(faults).__name__}")
    try:
        return msgspec.convert(msgspec.to_builtins(faults), Faults)  # msgspec does not check fields in a constructor
    except (ValueError, TypeError, RecursionError) as problem:
        raise BargeError("bad_request", f"faults: {problem}") from None


def check_node_id(node_id: int) -> None:
    """Raise BargeError(bad_request) if it can't be a node's id."""
    if type(node_id) is not int or not 0 <= node_id <= MAX_INT:
        raise BargeError("bad_request", f"a node's id is a number, not {node_id!r:.80}")


def check_seconds(**given: float) -> None:
    """Raise BargeError(bad_request) for a time-out that is not a positive, finite number of seconds."""
    for name, seconds in given.items():
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not (is_number and 0 < seconds <= LONGEST_S):  # also false for NaN
            raise BargeError("bad_request", f"{name} is a number of seconds above 0, not {seconds!r:.80}")


def checked_token(token: bytes | None) -> bytes | None:
    """Return the API's token by the rules for the file that holds it (docs/configuration.md); raise BargeError(bad_request)."""
    if token is None:
        return None
    if not isinstance(token, bytes):
        raise BargeError("bad_request", f"token is bytes, not {type(token).__name__}")
    try:
        return token_of(token)
    except ValueError as problem:
        raise BargeError("bad_request", f"token {problem}") from None


def addresses_of(name: str, addresses: Iterable[str]) -> list[str]:
    """Return the addresses; raise BargeError(bad_request) unless it is a list of addresses that parse_address accepts."""
    if isinstance(addresses, (str, bytes)) or not isinstance(addresses, Iterable):
        raise BargeError("bad_request", f"{name} is a list of addresses, not {type(addresses).__name__}")
    found = list(addresses)
    for address in found:
        if not isinstance(address, str):
            raise BargeError("bad_request", f"{name}: an address is str, not {type(address).__name__}")
        try:
            parse_address(address)
        except ValueError as problem:
            raise BargeError("bad_request", f"{name}: {problem}") from None
    return found
