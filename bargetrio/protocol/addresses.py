"""Addresses as people write them: "127.0.0.1:8101", "[::1]:8101", "barge-1.example:8101"."""


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port); raise ValueError saying what is wrong."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, [::1]:8101")
    if not host or any(character.isspace() or not character.isprintable() for character in host):
        raise ValueError(f"{text!r} has no usable host")
    if not (port_text.isascii() and port_text.isdigit()) or not 1 <= int(port_text) <= 65535:
        raise ValueError(f"{text!r}: the port is a number from 1 to 65535")
    return host, int(port_text)
