"""Bytes to lines."""

import subprocess
import sys
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


CROWD = """
import itertools, os
from bargetrio.daemon import malloc_policy
from bargetrio.protocol.lines import LineReader

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

malloc_policy.apply()
sizes = itertools.cycle((32768, 32768, 20000, 7000, 32768))
readers = [LineReader(8 << 20) for _ in range(1000)]
before, most = resident(), 0
while len(readers) > 20:
    for reader in list(readers):
        reader.feed(b"x" * next(sizes))
    readers.sort(key=lambda reader: reader.pending_bytes)
    while sum(reader.pending_bytes for reader in readers) > 128 << 20:
        readers.pop().clear()
    most = max(most, resident())
print(most - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is resident")
def test_long_lines_that_grow_together_occupy_what_they_have() -> None:
    """A buffer for each, enlarged piece by piece, leaves holes among the others': 213 MiB for these 128 (OWN-172)."""
    done = subprocess.run([sys.executable, "-c", CROWD], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 1.4 * (128 << 20)


def test_a_long_line_in_many_pieces_is_one_line() -> None:
    """Whatever the pieces are: blocks of it are kept, not one buffer."""
    line, reader = bytes(range(1, 10)) + b"y" * 300_000 + b"z", LineReader(400_000)
    for size in (1, 1000, 65_536, 70_000):
        pieces = [line[at : at + size] for at in range(0, len(line), size)]
        for count, piece in enumerate(pieces, 1):
            assert reader.feed(piece) == []
            assert reader.pending_bytes == min(count * size, len(line))
        assert reader.feed(b"\nnext") == [line]
        assert reader.pending_bytes == 4
        reader.clear()
        assert reader.pending_bytes == 0
