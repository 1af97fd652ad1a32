"""Preview of a command in the event log: its key, and the first 32 characters of its value.

Tens of thousands of facts are recorded a second, and few are read; a command can be a mebibyte within the buffer of a whole
batch. So `compact_copy` copies a short command, to be decoded when it is read, and makes the preview of a long one at once,
without decoding its value: neither keeps a reference to the buffer.
"""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

SHOWN_CHARACTERS: Final = 32
SHOWN_KEY_CHARACTERS: Final = 64
BEGINNING_BYTES: Final = 400
"""Enough for the shown characters, whatever they are: one is at most twelve bytes of JSON (a surrogate pair)."""
CUT_BACK_BYTES: Final = 16
"""More than such a character has: so far back a beginning is cut until it is valid JSON."""


class _DecodedCommand(Struct, frozen=True, gc=False):
    """The fields of a command that are shown; values stay raw."""

    op: str
    key: str = ""
    value: Raw = Raw()
    value_b64: Raw = Raw()
    if_index: int | None = None
    if_absent: bool = False


_decoder: Final = msgspec.json.Decoder(_DecodedCommand | None)

Preview = dict[str, Any]

SHORT_BYTES: Final = 512


def compact_copy(command: Raw) -> bytes | Preview:
    """Return a small copy of the command for `preview_of`, without a reference to the command's buffer."""
    return bytes(command) if len(command) <= SHORT_BYTES else _preview(command, hide_values=False)


def preview_of(copy: bytes | Preview, *, hide_values: bool = False) -> Preview:
    """Return the preview of a command: {"key", "value"}, {"key", "delete": True}, {"no_op": True} or {"members": True}."""
    if isinstance(copy, bytes):
        return _preview(Raw(copy), hide_values)
    if hide_values and ("value" in copy or "value_b64" in copy):
        return {**{name: copy[name] for name in copy if name not in ("value", "value_b64")}, "value": "hidden"}
    return copy


def preview_text(preview: Preview) -> str:
    """Return the preview as text for people: `{key: 100, value: "Some Value"}`."""
    if preview.get("no_op"):
        return "{no-op}"
    if preview.get("members"):
        return "{members}"
    if "unreadable" in preview:
        return "{unreadable}"
    parts = [f"key: {preview['key']}"]
    if preview.get("delete"):
        parts.append("delete")
    elif "value" in preview:
        parts.append(f'value: "{preview["value"]}"')
    elif "value_b64" in preview:
        parts.append(f"value_b64: {preview['value_b64']}")
    if "if_index" in preview:
        parts.append(f"if_index: {preview['if_index']}")
    if preview.get("if_absent"):
        parts.append("if_absent")
    return "{" + ", ".join(parts) + "}"


def _preview(command: Raw, hide_values: bool) -> Preview:
    try:
        decoded = _decoder.decode(command)
    except (ValueError, RecursionError):
        return {"unreadable": True}
    if decoded is None:
        return {"no_op": True}
    if decoded.op == "members":
        return {"members": True}
    preview: Preview = {"key": _cut(decoded.key, SHOWN_KEY_CHARACTERS)}
    if decoded.op == "delete":
        preview["delete"] = True
    elif hide_values:
        preview["value"] = "hidden"
    elif decoded.value:
        preview["value"] = _beginning(bytes(memoryview(decoded.value)[:BEGINNING_BYTES]))
    elif decoded.value_b64:
        preview["value_b64"] = _beginning(bytes(memoryview(decoded.value_b64)[:BEGINNING_BYTES]))
    if decoded.if_index is not None:
        preview["if_index"] = decoded.if_index
    if decoded.if_absent:
        preview["if_absent"] = True
    return preview


def _beginning(raw: bytes) -> str:
    """Return the first characters of a JSON string; a character is at most twelve bytes of it (a surrogate pair)."""
    if len(raw) < BEGINNING_BYTES:
        return _cut(msgspec.json.decode(raw, type=str), SHOWN_CHARACTERS)
    for length in range(len(raw), len(raw) - CUT_BACK_BYTES, -1):
        try:
            return _cut(msgspec.json.decode(raw[:length] + b'"', type=str), SHOWN_CHARACTERS)
        except ValueError:
            continue  # cut within a character or an escape
    return "…"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
