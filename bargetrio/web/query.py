"""Parsing and validation of a request's query string."""

from typing import Literal

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import INT_DIGITS, QUOTED_CHARACTERS
from bargetrio.protocol.requests import ReadLevel
from bargetrio.web.targets import percent_decoded


def pairs_of(query_string: bytes) -> dict[str, list[str]]:
    """Return the query's parameters; raise BargeError for invalid UTF-8 or percent-encoding."""
    found: dict[str, list[str]] = {}
    try:
        for part in query_string.split(b"&"):
            if part:
                name, _, value = part.replace(b"+", b" ").partition(b"=")
                found.setdefault(percent_decoded(name).decode(), []).append(percent_decoded(value).decode())
    except UnicodeDecodeError:
        raise BargeError("bad_request", "the query is not UTF-8 text, percent-encoded") from None
    return found


class Query:
    """The query string of one request: every parameter is known, checked, and given once unless it may repeat."""

    def __init__(self, pairs: dict[str, list[str]], *allowed: str) -> None:
        for name in pairs:
            if name not in allowed:
                known = f"; known are {', '.join(allowed)}" if allowed else ""
                raise BargeError("bad_request", f"unknown parameter {name[:QUOTED_CHARACTERS]!r}{known}")
        self._pairs = pairs

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise BargeError for a parameter of the route that this kind of request does not support."""
        for name in names:
            if name in self._pairs:
                raise BargeError("bad_request", f"{name} is not taken here: {why}")

    def text(self, name: str) -> str:
        """Return the parameter, "" if it is missing."""
        values = self._pairs.get(name, [""])
        if len(values) > 1:
            raise BargeError("bad_request", f"{name} is given {len(values)} times")
        value = values[0]
        if "\0" in value:
            raise BargeError("bad_request", f"{name} holds a NUL character")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number."""
        if name not in self._pairs:
            return default
        text = self.text(name)
        if not (text.isascii() and text.isdigit() and len(text) <= INT_DIGITS and low <= int(text) <= high):
            raise BargeError("bad_request", f"{name} is a number from {low} to {high}, not {text[:QUOTED_CHARACTERS]!r}")
        return int(text)

    def flag(self, name: str) -> bool:
        """Return the boolean parameter; raise BargeError if it has no value."""
        if name not in self._pairs:
            return False
        text = self.text(name).lower()
        if text in ("1", "true", "yes", "on"):
            return True
        if text in ("0", "false", "no", "off"):
            return False
        raise BargeError("bad_request", f"{name} is 1 or 0, not {text[:QUOTED_CHARACTERS]!r}")

    def read_level(self) -> ReadLevel:
        """Return the read level."""
        text = self.text("read") if "read" in self._pairs else "linearizable"
        levels: dict[str, Literal["linearizable", "lease", "stale"]] = {
            "linearizable": "linearizable",
            "lease": "lease",
            "stale": "stale",
        }
        if text not in levels:
            raise BargeError("bad_request", f"read is linearizable, lease or stale, not {text[:QUOTED_CHARACTERS]!r}")
        return levels[text]

    def ids(self, name: str, known: list[int]) -> frozenset[int]:
        """Return node ids; the parameter may repeat."""
        found: set[int] = set()
        for text in self._pairs.get(name, []):
            if not (text.isascii() and text.isdigit() and len(text) <= INT_DIGITS and int(text) in known):
                raise BargeError("bad_request", f"{name}: there is no node {text[:QUOTED_CHARACTERS]!r}; the nodes are {known}")
            found.add(int(text))
        return frozenset(found)

    def words(self, name: str, known: tuple[str, ...]) -> frozenset[str]:
        """Return some of the known words; the parameter may repeat."""
        for text in self._pairs.get(name, []):
            if text not in known:
                raise BargeError("bad_request", f"there is no {name} {text[:QUOTED_CHARACTERS]!r}; known are {', '.join(known)}")
        return frozenset(self._pairs.get(name, []))
