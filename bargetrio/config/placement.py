"""Checks whether a configuration can run on this machine; used by `serve` and `config check`."""

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bargetrio.protocol.addresses import canonical_address, is_wildcard, parse_address


class BoundAddress(NamedTuple):
    """A listener of one daemon: its owner as text, and its address."""

    owner: str
    address: str


def binding_problems(places: Sequence[BoundAddress]) -> list[str]:
    """Return why these can't all be bound by one process; a port in use by another process is not reported."""
    found: list[str] = []
    for number, place in enumerate(places):
        twin = next((other for other in places[:number] if _clash(place.address, other.address)), None)
        if twin is not None:
            found.append(f"{place.owner} and {twin.owner} would both listen on {place.address}")
        elif problem := _unbindable(place.address):
            found.append(f"{place.owner} can't listen on {place.address}: {problem}")
    return found


def folder_problem(folder: Path) -> str | None:
    """Return why a node can't use or create this folder; None if it can."""
    try:
        there = folder
        while not _exists(there):
            there = there.parent
    except OSError as problem:
        return f"{folder}: {problem.strerror}"
    if there.is_symlink() and not there.exists():
        return f"{there} is a symbolic link to nothing"
    if not there.is_dir():
        return f"{there} is no folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} can't be written by this user"
    return None


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _clash(one: str, other: str) -> bool:
    (host, port), (other_host, other_port) = canonical_address(one), canonical_address(other)
    if port != other_port:
        return False
    if host == other_host or ((number := _number_of(one)) is not None and number == _number_of(other)):
        return True
    # A wildcard binds the port of all addresses of its family; [::] binds IPv4's, too.
    return any(is_wildcard(a) and not (_version(b) == 6 and _version(a) == 4) for a, b in ((one, other), (other, one)))


def _number_of(address: str) -> str | None:
    """Return the IP address to bind, an IPv4-mapped one as IPv4; None if the name does not resolve."""
    host, port = parse_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
    except OSError:
        return None
    return str(found).lower().removeprefix("::ffff:")


def _version(address: str) -> int | None:
    try:
        return ipaddress.ip_address(parse_address(address)[0]).version
    except ValueError:
        return None


def _unbindable(address: str) -> str | None:
    """Return why the address can't be bound, None if it can: tried on a free port, unless the port needs a privilege."""
    host, port = parse_address(address)
    try:
        family, _, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as problem:
        return f"the name {host!r} does not resolve: {problem.strerror}"
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((resolved[0], port if port < 1024 else 0, *resolved[2:]))
    except PermissionError:
        return f"this user may not listen on ports below 1024, as {port}"
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            return None
        return f"this machine has no such address ({problem.strerror})"
    return None
