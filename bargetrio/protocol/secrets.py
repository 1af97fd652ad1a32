"""The API's token and the peers' secret, as read from files. No error text has a file's content."""

from typing import Final

TOKEN_BYTES: Final = 4096
"""A token travels in a header of every request."""


def token_of(data: bytes) -> bytes:
    """Return the API's token, without surrounding blanks; raise ValueError, worded to follow the file's name."""
    token = secret_of(data)
    if b"\n" in token or b"\r" in token:
        raise ValueError("has more than one line; a token is one line (`base64 -w 0` writes one)")
    if not all(0x20 <= byte <= 0x7E for byte in token):
        raise ValueError("holds a character that no header can carry; a token is printable ASCII")
    return token


def secret_of(data: bytes) -> bytes:
    """Return the secret, without surrounding blanks; raise ValueError, worded to follow the file's name."""
    secret = data.strip()
    if not secret:
        raise ValueError("is empty")
    if len(data) > TOKEN_BYTES:
        raise ValueError(f"has more than {TOKEN_BYTES} bytes")
    return secret
