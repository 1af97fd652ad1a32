"""Bytes to lines."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargetrio.protocol.lines import LineReader, LineTooLong


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=10), st.data())
def test_lines_come_out_whole_however_the_bytes_come(lines: list[bytes], data: st.DataObject) -> None:
    """A read may end anywhere, inside a character too."""
    stream = b"".join(line + b"\n" for line in lines)
    reader = LineReader(100)
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == lines


def test_a_line_separator_of_unicode_is_no_newline() -> None:
    """U+2028 and U+0085 are legal inside a JSON string."""
    line = '"a\u2028b\x85c"'.encode()
    assert LineReader(100).feed(line + b"\n") == [line]


def test_a_line_over_the_limit_is_refused_before_it_ends() -> None:
    """BUG-57: neither endless memory nor an endless wait."""
    reader = LineReader(10)
    assert reader.feed(b"0123456789") == []
    with pytest.raises(LineTooLong):
        reader.feed(b"x")


def test_a_long_line_is_refused_behind_good_ones() -> None:
    """The limit is a line's, not a read's."""
    assert LineReader(5).feed(b"12345\n12345\n123") == [b"12345", b"12345"]
    with pytest.raises(LineTooLong):
        LineReader(5).feed(b"1\n123456\n")
    with pytest.raises(LineTooLong):
        LineReader(5).feed(b"1\n123456")


def test_a_line_in_small_pieces_costs_what_it_has() -> None:
    """As a list of pieces of three bytes it would have taken fifteen times its size."""
    reader = LineReader(1 << 20)
    pieces = [bytes([65 + number % 26]) * 3 for number in range(100_000)]
    tracemalloc.start()
    try:
        for number, piece in enumerate(pieces):
            assert reader.feed(bytes(bytearray(piece))) == [], number
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.pending_bytes == 300_000
    assert held < 500_000
    assert reader.feed(b"\n") == [b"".join(pieces)]
    assert reader.pending_bytes == 0


def test_what_is_refused_is_not_kept() -> None:
    """Nor what is dropped: the connection may stand a moment longer, to tell the other side why."""
    reader = LineReader(10)
    reader.feed(b"0123456789")
    with pytest.raises(LineTooLong):
        reader.feed(b"x" * 1000)
    assert reader.pending_bytes == 0
    reader.feed(b"0123")
    reader.clear()
    assert reader.pending_bytes == 0
    assert reader.feed(b"5\n") == [b"5"]
