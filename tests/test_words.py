"""Code and documents use the field's words: invented ones that were replaced do not come back."""

import ast
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

WORD: Final = re.compile(rf"(?<![A-Za-z])({'|'.join(REPLACED)})(?![a-z])", re.IGNORECASE)

SECTION: Final = re.compile(r"\((?:[3-9]|10)\.\d(?:\.\d)?[,;:)]|^(?:[3-9]|10)\.\d(?:\.\d)?[:,;]")
"""A section that does not say of which text it is."""


def texts_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each docstring, comment and name, with the parts of a name as words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield node.body[0].lineno, text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
        elif token.type == tokenize.NAME:
            yield token.start[0], re.sub(r"_+|(?<=[a-z])(?=[A-Z])", " ", token.string)


def test_replaced_words_are_found_wherever_they_stand() -> None:
    """In a docstring, a comment, and a part of a name; not within another word, nor in a string."""
    source = '"""Ring the bell."""\n\nlast_parcel = "bell"  # lest it wait\nclass Errand: ...\nlabel = spelling = 1\n'
    found = [(line, match[0].lower()) for line, text in texts_of(source) for match in WORD.finditer(text)]
    assert sorted(found) == [(1, "bell"), (3, "lest"), (3, "parcel"), (4, "errand")]
    assert [bool(SECTION.search(text)) for text in ("Obey (5.1).", "5.2: votes.", "Obey (Raft 5.1).")] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["bargetrio", "tests"])
def test_code_uses_the_fields_words(folder: str) -> None:
    """Docstrings, comments and names; a section says of which text it is."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path == Path(__file__):
            continue
        for line, text in texts_of(path.read_text()):
            found += [f"{path.relative_to(ROOT)}:{line}: {match[0]}" for match in WORD.finditer(text)]
            found += [f"{path.relative_to(ROOT)}:{line}: {match[0]} of which text?" for match in SECTION.finditer(text)]
    assert not found, "\n".join(found)


def test_documents_use_the_fields_words() -> None:
    """In README and every page."""
    found = []
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found += [f"{path.relative_to(ROOT)}:{number}: {match[0]}" for match in WORD.finditer(line)]
    assert not found, "\n".join(found)
