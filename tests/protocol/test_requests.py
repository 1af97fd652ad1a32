"""Bad requests of clients: an error for each, distinguished from lines that are no request at all."""

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from bargetrio.protocol.errors import APPLIED, HTTP_STATUS, TITLE, BargeError
from bargetrio.protocol.limits import KEY_BYTES, VALUE_BYTES
from bargetrio.protocol.requests import (
    BadRequest,
    Delete,
    Get,
    List,
    MalformedLine,
    Put,
    Request,
    decode_request,
    decode_requests,
    is_write,
)
from bargetrio.protocol.validation import check_key, check_value, decode_value_b64, text_or_b64


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"id":1,"op":"put","key":"100","value":"Some Value"}', Put(id=1, key="100", value="Some Value")),
        (b'{"id":2,"op":"put","key":"a","value":"","if_absent":true}', Put(id=2, key="a", value="", if_absent=True)),
        (b'{"id":3,"op":"put","key":"a","value_b64":"/w==","if_index":12}', Put(id=3, key="a", value_b64="/w==", if_index=12)),
        (b'{"id":4,"op":"get","key":"100"}', Get(id=4, key="100")),
        (b'{"id":5,"op":"get","key":"100","read":"stale"}', Get(id=5, key="100", read="stale")),
        (b'{"id":6,"op":"delete","key":"100","if_index":0}', Delete(id=6, key="100", if_index=0)),
    ],
)
def test_a_good_line_is_its_request(line: bytes, request_: Put | Get | Delete) -> None:
    """docs/wire_format.md."""
    assert decode_request(line) == request_


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET / HTTP/1.1\r",
        b"Host: localhost\r",
        b"not json",
        b"[]",
        b'"text"',
        b"12",
        b"null",
        b'{"op":"get","key":"a"}',
        b'{"id":null,"op":"get","key":"a"}',
        b'{"id":true,"op":"get","key":"a"}',
        b'{"id":1.5,"op":"get","key":"a"}',
        b'{"id":"1","op":"get","key":"a"}',
        b'{"id":-1,"op":"get","key":"a"}',
        b'{"id":9223372036854775808,"op":"get","key":"a"}',
        b'{"id":1,"op":"get","key":"a"',
        b'{"id":1,"op":"get","key":"a"} {}',
        b'{"id":1,"op":"put","key":"a","value":NaN}',
        b'{"id":1,"op":"get","key":"\xff"}',
        '{"id":1,"op":"get","key":"a"}'.encode("utf-16"),
        b'{"id":1,"x":' + b"[" * 17 + b"]" * 17 + b"}",
        b'{"id":1,"x":' + b"[" * 100_000,
        b'{"id":' + b"9" * 5000 + b',"op":"get","key":"a"}',
        b'{"id":1,"op":"get","key":"\\ud800"}',
    ],
)
def test_what_is_no_request_ends_the_connection(line: bytes) -> None:
    """A browser can POST text to a port: never skip a bad line and read on (SECURITY)."""
    with pytest.raises(MalformedLine):
        decode_request(line)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"id":7,"op":"fly","key":"a"}', "fly"),
        (b'{"id":7,"key":"a"}', "op"),
        (b'{"id":7,"op":"get"}', "key"),
        (b'{"id":7,"op":"get","key":100}', "str"),
        (b'{"id":7,"op":"get","key":""}', "empty"),
        (b'{"id":7,"op":"get","key":"a\\u0000b"}', "NUL"),
        (b'{"id":7,"op":"get","key":"' + b"k" * (KEY_BYTES + 1) + b'"}', "1025 bytes"),
        (b'{"id":7,"op":"get","key":"a","read":"sometimes"}', "sometimes"),
        (b'{"id":7,"op":"get","key":"a","reed":"stale"}', "reed"),
        (b'{"id":7,"op":"put","key":"a"}', "value"),
        (b'{"id":7,"op":"put","key":"a","value":1}', "str"),
        (b'{"id":7,"op":"put","key":"a","value":"v","value_b64":"dg=="}', "either"),
        (b'{"id":7,"op":"put","key":"a","value_b64":"%%%"}', "base64"),
        (b'{"id":7,"op":"put","key":"a","value":"v","if_index":-1}', "if_index"),
        (b'{"id":7,"op":"put","key":"a","value":"v","if_index":true}', "if_index"),
        (b'{"id":7,"op":"put","key":"a","value":"v","if_index":1,"if_absent":true}', "not both"),
        (b'{"id":7,"op":"put","key":"a","value":"' + b"v" * (VALUE_BYTES + 1) + b'"}', "1048577 bytes"),
        (b'{"id":7,"op":"list","limit":1001}', "limit"),
    ],
)
def test_a_bad_field_is_an_error_with_the_requests_id(line: bytes, says: str) -> None:
    """Valid JSON with a bad field: bad_request with its id, the connection stays."""
    with pytest.raises(BadRequest) as raised:
        decode_request(line)
    assert raised.value.request_id == 7
    assert says in str(raised.value)


@given(st.text(min_size=1, max_size=50))
def test_a_key_is_utf8_text_without_nul(key: str) -> None:
    """1 to 1,024 bytes; a lone surrogate would be a poison entry (BUG-58)."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        size = 0
    if 1 <= size <= KEY_BYTES and "\0" not in key:
        check_key(key)
    else:
        with pytest.raises(BargeError):
            check_key(key)


def test_the_size_of_a_key_and_a_value_is_counted_in_bytes() -> None:
    """512 two-byte characters fit, 513 do not."""
    check_key("ä" * 512)
    with pytest.raises(BargeError):
        check_key("ä" * 513)
    check_value("ä" * (VALUE_BYTES // 2))
    with pytest.raises(BargeError) as raised:
        check_value("ä" * (VALUE_BYTES // 2) + "a")
    assert raised.value.status == 413


@given(st.binary(max_size=100))
def test_bytes_come_back_as_they_went(value: bytes) -> None:
    """Text where they are UTF-8, base64 where they are not."""
    text, value_b64 = text_or_b64(value)
    if text is not None:
        assert value_b64 is None and text.encode() == value
    else:
        assert value_b64 is not None and decode_value_b64(value_b64) == value


def test_the_error_table_is_whole() -> None:
    """Each code has its status, its title, and says whether the write was applied."""
    assert APPLIED.keys() == HTTP_STATUS.keys() == TITLE.keys()
    assert {code for code, applied in APPLIED.items() if applied is None} == {"storage_failed", "outcome_unknown"}


PIECES = st.sampled_from(
    [
        b'{"id":1,"op":"get","key":"a"}',
        b'{"id":2,"op":"put","key":"b","value":"}"}',
        b'{"id":3,"op":"delete","key":"c","if_index":4}',
        b'{"id":4,"op":"get","key":""}',
        b'{"id":5,"op":"put","key":"d"}',
        b'{"id":6,',
        b'"op":"get","key":"e"}',
        b" ",
        b"\r",
        b"",
        b",",
        b"[",
        b"}",
    ]
)


@given(st.lists(st.lists(PIECES, max_size=3).map(b"".join), max_size=6))
def test_many_lines_are_what_each_of_them_is(lines: list[bytes]) -> None:
    """None as soon as one is wrong: never two requests of one line, nor one of two."""
    try:
        each = [decode_request(line) for line in lines]
    except (BadRequest, MalformedLine):
        assert decode_requests(lines) is None
    else:
        assert decode_requests(lines) in (each, None if any(line[-1:] != b"}" for line in lines) else each)


def test_an_object_over_two_lines_beside_two_on_one_is_seen() -> None:
    """As many objects as lines, and yet no line is one."""
    whole = b'{"id":1,"op":"get","key":"a"}'
    assert decode_requests([whole, whole, whole]) is not None
    assert decode_requests([whole + whole, whole[:8], whole[8:]]) is None


@pytest.mark.parametrize("key", ["", "a\0b", "x" * (KEY_BYTES + 1), "é" * (KEY_BYTES // 2 + 1)])
@pytest.mark.parametrize("request_", [Get(id=1, key=""), Put(id=1, key="", value="v")])
def test_the_short_check_of_the_usual_request_lets_no_bad_key_through(request_: Get | Put, key: str) -> None:
    """Of a batch; the longest good keys pass."""
    bad = msgspec.json.encode(structs.replace(request_, key=key)).replace(
        b"{", b'{"op":"%s",' % type(request_).__name__.lower().encode(), 1
    )
    assert decode_requests([bad, bad]) is None
    for good in ("x" * KEY_BYTES, "é" * (KEY_BYTES // 2)):
        line = bad.replace(msgspec.json.encode(key), msgspec.json.encode(good))
        assert decode_requests([line, line]) == [structs.replace(request_, key=good)] * 2


def test_a_request_of_a_kind_that_is_not_known_to_be_a_read_is_a_write() -> None:
    """Else the clients and forwarders would send it again where its answer was lost, and it would be applied twice."""

    class Increment(Get, frozen=True):
        """A kind to come."""

    each: tuple[Request, ...] = (Put(id=1, key="k", value="v"), Delete(id=1, key="k"), Get(id=1, key="k"), List(id=1))
    assert {type(request) for request in each} == set(get_args(Request))
    assert [is_write(request) for request in each] == [True, True, False, False]
    assert is_write(Increment(id=1, key="k"))
