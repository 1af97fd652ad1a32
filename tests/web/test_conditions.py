"""If-Match and If-None-Match as RFC 9110, 13.1 has them, on every route that has tags."""

from collections.abc import Iterator

import pytest

from bargetrio.protocol.errors import BargeError
from bargetrio.web.conditions import Tag, condition_of, tags_of
from tests.stories.daemon import Daemon, running
from tests.web.wire import ask

PLAIN = "Content-Type: text/plain"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("conditions")) as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["If-None-Match: {tag}"], 304),
        (["If-None-Match: W/{tag}"], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "x", W/{tag}'], 304),
        (['If-None-Match: "x","y,z",{tag}'], 304),
        (['If-None-Match: "x"', "If-None-Match: {tag}"], 304),
        (["If-None-Match: {tag}", 'If-None-Match: "x"'], 304),
        (['If-None-Match: "x"'], 200),
        (['If-None-Match: "x", W/"y"'], 200),
        (["If-None-Match: 7"], 400),
        (['If-None-Match: "7'], 400),
        (['If-None-Match: w/"7"'], 400),
        (['If-None-Match: *, "7"'], 400),
        (["If-None-Match: "], 400),
        (["If-Match: {tag}"], 200),
        (["If-Match: *"], 200),
        (['If-Match: "x", {tag}'], 200),
        (["If-Match: W/{tag}"], 412),
        (['If-Match: "x"'], 412),
        (["If-Match: x"], 400),
        (["If-Match: {tag}", "If-None-Match: {tag}"], 304),
        (['If-Match: "x"', "If-None-Match: {tag}"], 412),
    ],
)
def test_reads_compare_tags(daemon: Daemon, lines: list[str], status: int) -> None:
    """If-Match strongly, If-None-Match weakly; lists, *, and two lines, which are a list."""
    daemon.put("tagged", "v")
    for path in ("/keys/tagged", "/log?kind=role_changed&node=0", "/", "/static/page.css"):
        tag = ask(daemon, "HEAD", path).headers["etag"]
        for method in ("GET", "HEAD"):
            told = ask(daemon, method, path, *(line.format(tag=tag) for line in lines))
            assert told.status == status, (method, path, told)
            if status == 304:
                assert (told.headers["etag"], told.body) == (tag, b"")


def test_a_removal_of_what_is_not_there_alone_removes_nothing(daemon: Daemon) -> None:
    """RFC 9110, 13.1.2: with a key that is there, the condition does not hold; without one, there is nothing to remove."""
    daemon.put("kept", "v")
    told = ask(daemon, "DELETE", "/keys/kept", "If-None-Match: *")
    assert (told.status, told.json["error"], told.json["applied"]) == (412, "precondition_failed", False)
    assert daemon.get("kept").json["value"] == "v"
    assert ask(daemon, "DELETE", "/keys/nothing-here", "If-None-Match: *").status == 404
    assert ask(daemon, "DELETE", "/keys/kept", 'If-None-Match: "1"').status == 400


def test_a_key_that_is_not_there_matches_nothing(daemon: Daemon) -> None:
    """404, but for If-Match of a read, which asked for it to be there; a write's `if_index` of a key that is not there is 0."""
    assert ask(daemon, "GET", "/keys/absent", "If-None-Match: *").status == 404
    assert ask(daemon, "GET", "/keys/absent", "If-Match: *").status == 412
    assert ask(daemon, "PUT", "/keys/absent", PLAIN, 'If-Match: "1"', body=b"v").status == 412
    assert ask(daemon, "PUT", "/keys/absent", PLAIN, 'If-Match: "0"', body=b"v").status == 201


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["If-Match: {tag}"], 200),
        (['If-Match: "7777"'], 412),
        (["If-Match: W/{tag}"], 412),
        (["If-Match: *"], 400),
        (['If-Match: {tag}, "7777"'], 400),
        (["If-Match: {tag}", 'If-Match: "7777"'], 400),
        (['If-Match: "7777"', "If-Match: {tag}"], 400),
        (["If-Match: 7777"], 400),
        (['If-Match: "abc"'], 400),
        (['If-Match: "007777"'], 400),
        (["If-Match: "], 400),
    ],
)
def test_a_write_carries_one_tag(daemon: Daemon, lines: list[str], status: int) -> None:
    """Alike for PUT and DELETE; what cannot be carried is refused, and changes nothing."""
    for method in ("PUT", "DELETE"):
        tag = daemon.put("cas", "before").headers["etag"]
        body, kind = (b"after", [PLAIN]) if method == "PUT" else (b"", [])
        told = ask(daemon, method, "/keys/cas", *kind, *(line.format(tag=tag) for line in lines), body=body)
        assert told.status == (204 if (method, status) == ("DELETE", 200) else status), (method, told)
        if status >= 400:
            assert told.json["applied"] is False
            assert daemon.get("cas").json["value"] == "before"


def test_a_list_is_read_in_linear_time() -> None:
    """16 KiB of anything costs no more than 16 KiB of tags."""
    for junk in (b" " * 16000 + b"x", b'"' * 16000, b"," * 16000, b'"x" ' * 4000, b"W/" * 8000):
        with pytest.raises(BargeError):
            tags_of("If-Match", junk)
    assert tags_of("If-Match", b'"a" , W/"b"') == [Tag("a", False), Tag("b", True)]
    assert tags_of("If-Match", b" * ") is None


def test_one_condition_at_a_time() -> None:
    """If-Match of a write is an index, If-None-Match is *."""
    assert condition_of({}) == (None, False)
    assert condition_of({b"if-match": b'"12"'}) == (12, False)
    assert condition_of({b"if-none-match": b"*"}) == (None, True)
    for headers in ({b"if-match": b'"12"', b"if-none-match": b"*"}, {b"if-none-match": b'"12"'}):
        with pytest.raises(BargeError):
            condition_of(headers)
