"""configuration.yml with something wrong in it: loaded, or refused with the place; never a traceback."""

from pathlib import Path
from random import Random

from bargetrio.config import ConfigurationError, load
from tests.fuzz.mutate import mutated

CASES = 2_000
SHIPPED = Path(__file__).parents[2] / "configuration.yml"
NASTY = (
    b"&a",
    b"*a",
    b"!!python/object:os.system",
    b"---",
    b"\t",
    b"{",
    b"[",
    b": ",
    b"- ",
    b"#",
    b"%YAML 9",
    b"? ",
    b"<<: ",
    b"|",
    b"\xff",
)


def test_any_text_is_a_configuration_or_is_refused(tmp_path: Path) -> None:
    """One line or more, changed, left out, doubled, exchanged."""
    random = Random(5)
    lines = SHIPPED.read_bytes().splitlines()
    path = tmp_path / "configuration.yml"
    refused = 0
    for _ in range(CASES):
        text = list(lines)
        for _ in range(random.randint(1, 3)):
            place = random.randrange(len(text))
            match random.randrange(5):
                case 0:
                    text[place] = mutated(random, text[place])
                case 1:
                    del text[place]
                case 2:
                    text.insert(place, text[random.randrange(len(text))])
                case 3:
                    cut = random.randrange(len(text[place]) + 1)
                    text[place] = text[place][:cut] + random.choice(NASTY) + text[place][cut:]
                case _:
                    other = random.randrange(len(text))
                    text[place], text[other] = text[other], text[place]
        path.write_bytes(b"\n".join(text) + b"\n")
        try:
            load(path)
        except ConfigurationError as problem:
            refused += 1
            assert "configuration.yml" in str(problem)
    assert refused > CASES / 4
