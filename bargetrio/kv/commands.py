"""The commands in the log: one JSON object each, encoded when the request arrives and kept raw until it is applied."""

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from bargetrio.protocol.requests import SHORT_KEY, SHORT_VALUE, Index, Put, Write
from bargetrio.protocol.validation import check_key, check_value, decode_value_b64, text_or_b64


class Stored(Struct, frozen=True, array_like=True, gc=False):
    """A key's value and the index of its last change; `is_b64` if the value is not text. Snapshots have the same form."""

    value: str
    index: int
    is_b64: bool = False


class PutCommand(Struct, frozen=True, tag_field="op", tag="put", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Write a key, if the condition holds when it is applied."""

    key: str
    value: str | None = None
    value_b64: str | None = None
    if_index: Index | None = None
    if_absent: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it writes text without a condition."""
        return self.value is not None and self.if_index is None and not self.if_absent


class DeleteCommand(Struct, frozen=True, tag_field="op", tag="delete", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Remove a key, if the condition holds when it is applied."""

    key: str
    if_index: Index | None = None


class ConfigurationCommand(Struct, frozen=True, tag_field="op", tag="members", gc=False):
    """A configuration entry of Raft (raft/standing.py): no key changes."""


Command = PutCommand | DeleteCommand | ConfigurationCommand

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Command | None] = msgspec.json.Decoder(Command | None)
_many: msgspec.json.Decoder[list[Command | None]] = msgspec.json.Decoder(list[Command | None])


def encode_command(request: Write) -> Raw:
    """Return the command of a validated request; a base64 value that is UTF-8 is stored as text."""
    if type(request) is Put:  # of a msgspec class isinstance takes several times as long to say no
        value, value_b64 = request.value, request.value_b64
        if value_b64 is not None:
            value, value_b64 = text_or_b64(decode_value_b64(value_b64))
        return Raw(_encode(PutCommand(request.key, value, value_b64, request.if_index, request.if_absent)))
    return Raw(_encode(DeleteCommand(request.key, request.if_index)))


def decode_command(raw: Raw) -> Command | None:
    """Return the command, None for the empty entry that begins a term; raise ValueError or RecursionError if it is neither."""
    return _decoder.decode(raw)


def decode_commands(raws: Sequence[Raw]) -> list[Command | None]:
    """Return all the commands, in half the time of one by one; raise ValueError or RecursionError if one is malformed."""
    return _many.decode(b"[" + b",".join(raws) + b"]")


def check_commands(raws: Sequence[Raw]) -> None:
    """Raise ValueError unless every command can be applied: a follower checks this before it persists (BUG-58)."""
    commands = decode_commands(raws)
    if len(commands) != len(raws):
        raise ValueError("something that is two commands, or none")
    for command in commands:
        if isinstance(command, PutCommand):
            key = command.key
            if not 0 < len(key) <= SHORT_KEY or "\0" in key:
                check_key(key)
            if (command.value is None) == (command.value_b64 is None):
                raise ValueError("a put has either value or value_b64")
            if command.value is not None:
                if len(command.value) > SHORT_VALUE:
                    check_value(command.value)
            elif command.value_b64 is not None:
                decode_value_b64(command.value_b64)
        elif isinstance(command, DeleteCommand):
            check_key(command.key)
