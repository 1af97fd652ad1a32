"""The rules for keys and values; REST and TCP apply them before anything is proposed (BUG-58)."""

import base64
import binascii

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import KEY_BYTES, VALUE_BYTES


def check_key(key: str) -> None:
    """Raise BargeError(bad_request) unless `key` is UTF-8 text of 1 to 1,024 bytes without NUL."""
    if not key:
        raise BargeError("bad_request", "the key is empty")
    if "\0" in key:
        raise BargeError("bad_request", "the key holds a NUL character")
    if key.isascii():
        size = len(key)
    else:
        try:
            size = len(key.encode())
        except UnicodeEncodeError:
            raise BargeError("bad_request", "the key is not valid Unicode text (a lone surrogate)") from None
    if size > KEY_BYTES:
        raise BargeError("bad_request", f"the key has {size} bytes; at most {KEY_BYTES} are allowed")


def check_value(value: str) -> None:
    """Raise BargeError(bad_request, 413) unless `value` is text of at most 1 MiB as UTF-8."""
    if len(value) <= VALUE_BYTES // 4:  # a character has at most four bytes
        if value.isascii():
            return
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BargeError("bad_request", "the value is not valid Unicode text (a lone surrogate)") from None
        return
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BargeError("bad_request", "the value is not valid Unicode text (a lone surrogate)") from None
    if size > VALUE_BYTES:
        raise BargeError("bad_request", f"the value has {size} bytes; at most {VALUE_BYTES} are allowed", status=413)


def decode_value_b64(value_b64: str) -> bytes:
    """Return the bytes of `value_b64`; raise BargeError(bad_request) if it is not base64 or over 1 MiB."""
    try:
        value = base64.b64decode(value_b64, validate=True)
    except (binascii.Error, ValueError):
        raise BargeError("bad_request", "value_b64 is not base64") from None
    if len(value) > VALUE_BYTES:
        detail = f"the value has {len(value)} bytes; at most {VALUE_BYTES} are allowed"
        raise BargeError("bad_request", detail, status=413)
    return value


def text_or_b64(value: bytes) -> tuple[str | None, str | None]:
    """Return (value, value_b64), one of them None: text if the bytes are UTF-8, else base64."""
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(value).decode("ascii")
