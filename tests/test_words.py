"""Code and documents use the field's words: invented ones that were replaced do not come back."""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[1]

REPLACED: Final = {
    r"bells?|turnstiles?|rung": "wake-up, eventfd",
    r"errands?|parcels?": "batch",
    r"spells?": "time slice",
    r"caged?|cages": "restart on error, contain",
    r"strangers?": "unauthenticated connection",
    r"hurr(y|ies|ying)": "backlog, priority",
    r"lest": "so that ... not",
    r"goodbyes?": "close, last line",
    r"nobody knows": "unknown",
    r"dissertation (?=\d)": "Ongaro",
    r"DESIGN \d": "a document of this repository",
}
"""Words that have a term of the field in their place (regular expressions), and that term."""

PROSE: Final = {
    r"told|tells|telling": "reported, stated, sent, logged, returned",
    r"look(s|ed|ing)?": "check, poll, scan, search, execute (a read)",
    r"judg(es?|ed|ing|e?ments?)": "checker, check",
    r"(?:go|goes|going) first": "has priority, is first in the queue",
    r"(?:a|an|its|their|whose|next|first|have|take|takes|took|in) turns?": "scheduled, runs, alternating, step",
    r"turns? (?:in)?to|turns out": "convert, become, is found",
    r"so (?:many|much|long|large|often)(?! as)": "the number's name, this many, the bound or the interval",
    r"without a word": "without output, without data",
    r"as chance": "drawn",
    r"in the air": "in flight",
    r"breaks? its word|broke their word": "a lying disk, loses synced data",
}
"""As REPLACED, in docstrings, comments and pages of the package; a name, also one in backquotes, may have them."""

WORD: Final = re.compile(rf"(?<![A-Za-z])({'|'.join(REPLACED)})(?![a-z])", re.IGNORECASE)
PROSE_WORD: Final = re.compile(rf"(?<![A-Za-z_])({'|'.join(PROSE)})(?![a-z_])", re.IGNORECASE)
CODE_SPAN: Final = re.compile(r"`[^`]*`")

SECTION: Final = re.compile(r"\((?:[3-9]|10)\.\d(?:\.\d)?[,;:)]|^(?:[3-9]|10)\.\d(?:\.\d)?[:,;]")
"""A section that does not say of which text it is."""


def texts_of(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, text, whether it is prose) of each docstring, also a constant's, comment and name, its parts as words."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, inspect.cleandoc(text), True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# "), True
        elif token.type == tokenize.NAME:
            yield token.start[0], re.sub(r"_+|(?<=[a-z])(?=[A-Z])", " ", token.string), False


def private_words(text: str) -> list[str]:
    """Return what of PROSE stands in a text outside of code."""
    return [match[0] for match in PROSE_WORD.finditer(CODE_SPAN.sub("``", text))]


def test_replaced_words_are_found_wherever_they_stand() -> None:
    """In a docstring, a comment, and a part of a name; not within another word, nor in a string."""
    source = '"""Ring the bell."""\n\nlast_parcel = "bell"  # lest it wait\nclass Errand: ...\nlabel = spelling = 1\n'
    found = [(line, match[0].lower()) for line, text, _ in texts_of(source) for match in WORD.finditer(text)]
    assert sorted(found) == [(1, "bell"), (3, "lest"), (3, "parcel"), (4, "errand")]
    assert [bool(SECTION.search(text)) for text in ("Obey (5.1).", "5.2: votes.", "Obey (Raft 5.1).")] == [True, True, False]


def test_private_words_are_found_in_prose_and_not_in_names() -> None:
    """In docstrings, those of constants too, and comments; a name may have them, and so may code in a text."""
    source = 'LOOK_S = 1\n"""Between two looks; `told` and LOOK_S are names."""\ntold = turns = 2  # whose turn; so far\n'
    found = [(line, word) for line, text, is_prose in texts_of(source) if is_prose for word in private_words(text)]
    assert sorted(found) == [(2, "looks"), (3, "whose turn")]
    assert private_words("Who goes first is told; the judge waits so long.") == ["goes first", "told", "judge", "so long"]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["bargetrio", "tests"])
def test_code_uses_the_fields_words(folder: str) -> None:
    """Docstrings, comments and names; a section says of which text it is."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path == Path(__file__):
            continue
        for line, text, is_prose in texts_of(path.read_text()):
            if is_prose and folder == "bargetrio":
                found += [f"{path.relative_to(ROOT)}:{line}: {word}" for word in private_words(text)]
            found += [f"{path.relative_to(ROOT)}:{line}: {match[0]}" for match in WORD.finditer(text)]
            found += [f"{path.relative_to(ROOT)}:{line}: {match[0]} of which text?" for match in SECTION.finditer(text)]
    assert not found, "\n".join(found)


def test_documents_use_the_fields_words() -> None:
    """In README and every page."""
    found = []
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found += [f"{path.relative_to(ROOT)}:{number}: {match[0]}" for match in WORD.finditer(line)]
            found += [f"{path.relative_to(ROOT)}:{number}: {word}" for word in private_words(line)]
    assert not found, "\n".join(found)
