"""Lines that are almost right: bytes flipped, cut, repeated, exchanged, and values that parsers stumble over."""

from random import Random

NASTY = (
    *(b"null", b"true", b"-1", b"0", b"1e999", b"9223372036854775807", b"9223372036854775808", b"1.5", b'""', b"[]", b"{}"),
    *(
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\xff"',
        b"\xe2\x80\xa8",
        b"NaN",
        b"[" * 200,
        b'{"a":' * 200,
        b"\x00",
        b"\r",
        b'"' + b"x" * 3000 + b'"',
    ),
    *(b'"put"', b'"get"', b'"append_request"', b"1" * 400, b"\xef\xbb\xbf", b"'", b"//", b"\\"),
)


def mutated(random: Random, line: bytes) -> bytes:
    """Return `line` with up to four changes; never with a newline in it."""
    data = bytearray(line)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(data) + 1)
        match random.randrange(7):
            case 0 if data:
                data[min(place, len(data) - 1)] = random.randrange(256)
            case 1:
                del data[place : place + random.randint(1, 20)]
            case 2:
                data[place:place] = random.choice(NASTY)
            case 3:
                data[place:place] = data[place : place + random.randint(1, 40)]
            case 4:
                start = data.find(b":", place)
                end = data.find(b",", start)
                if 0 <= start < end:
                    data[start + 1 : end] = random.choice(NASTY)
            case 5:
                del data[place:]
            case _:
                data[place:place] = bytes(random.randrange(256) for _ in range(random.randint(1, 8)))
    return bytes(data).replace(b"\n", b" ")
