"""get, put, delete, list, keys."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from bargetrio import console
from bargetrio.cli.completion import known_keys
from bargetrio.cli.shared import TEXT, Output, check_together, client_command, json_bytes
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import ITEMS, MOST_ITEMS, VALUE_BYTES

if TYPE_CHECKING:
    from bargetrio.cli.client_calls import ClientCalls
    from bargetrio.client.client import Client
    from bargetrio.protocol.requests import ListAnswer, ReadLevel

ITEMS_A_PAGE = 100
KEYS_A_PAGE = 1000
"""Keys of a page where all are wanted: with their values, which may be long and are kept until they are shown."""
_read_option = click.option(
    "--read",
    type=click.Choice(["linearizable", "lease", "stale"]),
    default="linearizable",
    help="stale: what one node has applied; needs no leader.",
)


@click.command()
@click.argument("key", type=TEXT, shell_complete=known_keys)
@_read_option
@click.option("--raw", is_flag=True, help="The value's bytes and nothing else, not even a newline.")
@client_command
def get(barge: "Client", output: Output, key: str, read: "ReadLevel", raw: bool) -> None:
    """Read a key. What is not text is printed as base64, or as it is with --raw."""
    check_together("raw", "as_json")
    answer = barge.get(key, read=read)
    if answer.index == 0:
        raise BargeError("not_found", f"{console.printable(key)} is not there")
    if raw:
        from bargetrio.protocol.validation import decode_value_b64

        is_text = answer.value is not None
        console.say_bytes((answer.value or "").encode() if is_text else decode_value_b64(str(answer.value_b64)))
        return
    fields = _item_fields(answer.key, answer.index, answer.value, answer.value_b64)
    output.say(answer.value if answer.value is not None else str(answer.value_b64), fields)


@click.command()
@click.argument("key", type=TEXT, shell_complete=known_keys)
@click.argument("value", type=TEXT)
@click.option("--if-index", type=click.IntRange(0), help="Only if the key's last change has this index (0: it does not exist).")
@click.option("--if-absent", is_flag=True, help="Only if the key is new.")
@client_command
def put(barge: "Client", output: Output, key: str, value: str, if_index: int | None, if_absent: bool) -> None:
    """Write a key; VALUE - is read from standard input, every byte of it."""
    data: str | bytes = _piped_value() if value == "-" else value
    answer = barge.put(key, data, if_index=if_index, if_absent=if_absent)
    fields: dict[str, Any] = {"key": answer.key, "index": answer.index, "term": answer.term}
    if isinstance(answer.created, bool):
        fields["created"] = answer.created
    output.say(f"index {answer.index}, term {answer.term}", fields)


@click.command()
@click.argument("key", type=TEXT, shell_complete=known_keys)
@click.option("--if-index", type=click.IntRange(0), help="Only if the key's last change has this index.")
@client_command
def delete(barge: "Client", output: Output, key: str, if_index: int | None) -> None:
    """Remove a key."""
    answer = barge.delete(key, if_index=if_index)
    if not answer.deleted:
        raise BargeError("not_found", f"{console.printable(key)} is not there")
    fields = {"key": key, "index": answer.index, "term": answer.term, "deleted": True}
    output.say(f"index {answer.index}, term {answer.term}", fields)


_pages = (
    click.argument("prefix", type=TEXT, default="", shell_complete=known_keys),
    click.option("--after", type=TEXT, default="", metavar="KEY", help="Begin after this key."),
    click.option("--limit", type=click.IntRange(1, MOST_ITEMS), default=ITEMS, show_default=True, help="At most this many."),
    click.option("--all", "everything", is_flag=True, help="All keys, page by page."),
    _read_option,
)


def _paged(function: Any) -> Any:
    for option in reversed(_pages):
        function = option(function)
    return function


@click.command(name="list")
@_paged
@client_command
def list_items(barge: "Client", output: Output, everything: bool, **asked: Any) -> None:
    """Show keys and values in order. With --json one key per line."""
    check_together("limit", "everything")
    from bargetrio.cli.repl import ITEMS, item_rows

    rows: list[list[str]] = []
    more: str | None = None
    for page in walk(barge, everything=everything, **asked):
        more = page.next
        if output.as_json:
            console.say_json(*(json_bytes(_item_fields(item.key, item.index, item.value, item.value_b64)) for item in page.items))
        else:
            rows += item_rows(page.items)
    if not output.as_json:
        output.table(ITEMS, rows, None)
    _print_more(more)


@click.command(name="keys")
@_paged
@click.option("-0", "--null", is_flag=True, help="End each key with a NUL byte, and escape nothing: for xargs -0.")
@client_command
def list_keys(barge: "Client", output: Output, everything: bool, null: bool, **asked: Any) -> None:
    """Show keys without values, in order, one per line; a newline or another control character in a key is escaped."""
    check_together("limit", "everything")
    check_together("null", "as_json")
    more: str | None = None
    for page in walk(barge, everything=everything, keys_only=True, **asked):
        more = page.next
        if output.as_json:
            console.say_json(*(json_bytes({"key": item.key, "index": item.index}) for item in page.items))
        elif null:
            console.say_bytes(b"".join(item.key.encode() + b"\0" for item in page.items))
        else:
            console.say("".join(console.printable(item.key) + "\n" for item in page.items), newline=False)
    _print_more(more)


def walk(
    barge: "ClientCalls", prefix: str, after: str, limit: int, read: "ReadLevel", *, everything: bool, keys_only: bool = False
) -> Iterator["ListAnswer"]:
    """Yield one page, or all: each is shown before the next is asked for."""
    cursor: str | None = after
    while cursor is not None:
        most = limit if not everything else KEYS_A_PAGE if keys_only else ITEMS_A_PAGE
        page = barge.items(prefix, after=cursor, limit=most, keys_only=keys_only, read=read)
        yield page
        cursor = page.next if everything else None


def _print_more(after: str | None) -> None:
    if after is not None:
        console.complain(f"there are more: --after {after!r}, or --all")


def _piped_value() -> bytes:
    """Return standard input; raise BargeError where it is longer than a value may be."""
    data = console.read_input(VALUE_BYTES + 1)
    if len(data) > VALUE_BYTES:
        raise BargeError("bad_request", f"the value has more than {VALUE_BYTES} bytes, the most that is allowed", status=413)
    return data


def _item_fields(key: str, index: int, value: str | None, value_b64: Any) -> dict[str, Any]:
    if value is not None:
        return {"key": key, "index": index, "value": value}
    return {"key": key, "index": index, "value_b64": value_b64}
