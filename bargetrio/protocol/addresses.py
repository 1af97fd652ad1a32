"""Addresses as people write them: "127.0.0.1:8101", "[::1]:8101", "barge-1.example:8101"."""

import re

from bargetrio.protocol.limits import MOST_PORT

_NAME = re.compile(r"(?=.{1,253}\.?$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")

_ZONE = re.compile(r"[A-Za-z0-9_.@-]{0,15}")
"""What may follow the % of an IPv6 address: the name of a network interface, or its number."""


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port); raise ValueError saying what is wrong.

    The host is not resolved; a numeric one must be an IP address, a name must be a valid host name.
    """
    scheme, separator, _ = text.partition("://")
    if separator:
        secure = "; Barge speaks plain HTTP, put a proxy in front of it for TLS" if scheme.lower() == "https" else ""
        raise ValueError(f"{text!r}: write host:port, without {scheme}://{secure}")
    host, colon, port_text = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        _check_number(host, text, 6)
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address is in brackets, [::1]:8101")
    elif host.strip("0123456789.") == "" or host[:2].lower() == "0x":
        _check_number(host, text, 4)
    else:
        _check_name(host, text)
    if (
        not (port_text.isascii() and port_text.isdigit() and len(port_text) <= len(str(MOST_PORT)))
        or not 1 <= int(port_text) <= MOST_PORT
    ):
        raise ValueError(f"{text!r}: the port is a number from 1 to {MOST_PORT}, and nothing follows it")
    return host, int(port_text)


def canonical_address(address: str) -> tuple[str, int]:
    """Return (host, port), equal for addresses that mean the same socket of a machine; raise ValueError."""
    import ipaddress

    host, port = parse_address(address)
    host = host.lower().rstrip(".")
    try:
        return str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)), port
    except ValueError:
        return host, port


def is_wildcard(address: str) -> bool:
    """Return whether it means all interfaces: an address to bind, not to dial. Raise ValueError."""
    import ipaddress

    host, _ = parse_address(address)
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if found.version == 6 else None
    return found.is_unspecified or (mapped is not None and mapped.is_unspecified)


def dial_address(address: str) -> str:
    """Return the address that a client on the same machine dials for a listener on `address`; raise ValueError."""
    if not is_wildcard(address):
        return address
    host, port = parse_address(address)
    return f"[::1]:{port}" if ":" in host else f"127.0.0.1:{port}"


def _check_number(host: str, text: str, version: int) -> None:
    import ipaddress

    try:
        is_right = ipaddress.ip_address(host).version == version and _ZONE.fullmatch(host.partition("%")[2]) is not None
    except ValueError:
        is_right = False
    if not is_right:
        raise ValueError(f"{text!r}: {host!r} is no IPv{version} address")


def _check_name(host: str, text: str) -> None:
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    is_number = name.strip("0123456789.") == ""  # IDNA turns other digits into ASCII ones
    if is_number or _NAME.fullmatch(name) is None:
        raise ValueError(f"{text!r} has no usable host")
