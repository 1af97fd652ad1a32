"""What the event log shows of a command: its key, and the first 32 characters of its value.

A fact is recorded tens of thousands of times a second, and hardly any is ever looked at; a command can be a mebibyte that lies
in a whole batch's bytes. So `copied` takes a short command and leaves the rest to whoever reads, and of a long one makes the
preview at once, without decoding its value: neither keeps a reference to those bytes.
"""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

SHOWN_CHARACTERS: Final = 32
SHOWN_KEY_CHARACTERS: Final = 64
BEGINNING_BYTES: Final = 400
"""Enough for the shown characters, whatever they are: one is at most twelve bytes of JSON (a surrogate pair)."""


class _Shown(Struct, frozen=True, gc=False):
    """As much of a command as is shown; values stay raw."""

    op: str
    key: str = ""
    value: Raw = Raw()
    value_b64: Raw = Raw()
    if_index: int | None = None
    if_absent: bool = False


_decoder: Final = msgspec.json.Decoder(_Shown | None)

Preview = dict[str, Any]

SHORT_BYTES: Final = 512


def copied(command: Raw) -> bytes | Preview:
    """Return what `shown` needs of the command later, in a size that may be kept by the thousand."""
    return bytes(command) if len(command) <= SHORT_BYTES else _preview(command, hide_values=False)


def shown(copy: bytes | Preview, *, hide_values: bool = False) -> Preview:
    """Return what to show of a command: {"key", "value"}, {"key", "delete": True}, {"no_op": True} or {"members": True}."""
    if isinstance(copy, bytes):
        return _preview(Raw(copy), hide_values)
    if hide_values and ("value" in copy or "value_b64" in copy):
        return {**{name: copy[name] for name in copy if name not in ("value", "value_b64")}, "value": "hidden"}
    return copy


def preview_text(preview: Preview) -> str:
    """Return the preview as people read it: `{key: 100, value: "Some Value"}`."""
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
        shown = _decoder.decode(command)
    except (ValueError, RecursionError):
        return {"unreadable": True}
    if shown is None:
        return {"no_op": True}
    if shown.op == "members":
        return {"members": True}
    preview: Preview = {"key": _cut(shown.key, SHOWN_KEY_CHARACTERS)}
    if shown.op == "delete":
        preview["delete"] = True
    elif hide_values:
        preview["value"] = "hidden"
    elif shown.value:
        preview["value"] = _beginning(bytes(memoryview(shown.value)[:BEGINNING_BYTES]))
    elif shown.value_b64:
        preview["value_b64"] = _beginning(bytes(memoryview(shown.value_b64)[:BEGINNING_BYTES]))
    if shown.if_index is not None:
        preview["if_index"] = shown.if_index
    if shown.if_absent:
        preview["if_absent"] = True
    return preview


def _beginning(raw: bytes) -> str:
    """Return the first characters of a JSON string; a character is at most twelve bytes of it (a surrogate pair)."""
    if len(raw) < BEGINNING_BYTES:
        return _cut(msgspec.json.decode(raw, type=str), SHOWN_CHARACTERS)
    for length in range(len(raw), len(raw) - 16, -1):
        try:
            return _cut(msgspec.json.decode(raw[:length] + b'"', type=str), SHOWN_CHARACTERS)
        except ValueError:
            continue  # the cut went through a character or an escape
    return "…"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
