"""A request target has one meaning, for every method and for access checks (docs/rest.md, "Request targets")."""

from collections.abc import Iterator

import pytest

from bargetrio.protocol.errors import BargeError
from bargetrio.web.targets import key_of, target_of
from tests.stories.daemon import Daemon, running
from tests.web.wire import ask, exchange, request

PLAIN = "Content-Type: text/plain"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("targets")) as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/keys/x", "x"),
        ("/%6beys/e", "e"),
        ("/%6Bey%73/e", "e"),
        ("/keys//x", "/x"),
        ("/keys/a/", "a/"),
        ("/keys/a//", "a//"),
        ("/keys/a/../b", "a/../b"),
        ("/keys/%2e%2e", ".."),
        ("/keys/../livez", "../livez"),
        ("/keys/.", "."),
        ("/keys/a;v=1", "a;v=1"),
        ("/keys/a+b", "a+b"),
        ("/keys/a%2fb%2F", "a/b/"),
        ("/%6beys/a%2fb", "a/b"),
        ("/keys/%25zz", "%zz"),
        ("/keys/%2525", "%25"),
        ("/keys/a%23b%3f", "a#b?"),
        ("/keys/keys/x", "keys/x"),
        ("http://{api}/keys/absolute", "absolute"),
        ("HTTP://{api}/keys/a/b", "a/b"),
    ],
)
def test_a_key_is_the_same_for_every_method(daemon: Daemon, target: str, key: str) -> None:
    """The route and the key are read from the same raw path."""
    target = target.format(api=daemon.api)
    ask(daemon, "DELETE", target)
    written = ask(daemon, "PUT", target, PLAIN, body=b"v")
    assert (written.status, written.json["key"]) == (201, key)
    read = ask(daemon, "GET", target)
    assert (read.status, read.json["key"], read.json["value"]) == (200, key, "v")
    assert ask(daemon, "DELETE", target).status == 204
    assert ask(daemon, "GET", target).status == 404


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("//keys/x", 404),
        ("///keys/x", 404),
        ("/./keys/x", 404),
        ("/x/../keys/x", 404),
        ("/keys;v=1/x", 404),
        ("/keys%2Fx", 404),
        ("/%2Fkeys/x", 404),
        ("/Keys/x", 404),
        ("/keysx", 404),
        ("/%256beys/x", 404),
        ("/keys%00/x", 404),
        ("/keys/", 400),
        ("/%6beys/", 400),
        ("/keys/%00", 400),
        ("/keys/a%00b", 400),
        ("/keys/%ff", 400),
        ("/keys/%c0%af", 400),
        ("/keys/%ed%a0%80", 400),
        ("/keys/a%zz", 400),
        ("/keys/a%", 400),
        ("/keys/a%4", 400),
        ("/%zzkeys/a", 400),
        ("/keys/a#b", 400),
        ("keys/x", 400),
        ("*", 400),
        ("x:80", 400),
        ("ftp://{api}/keys/x", 400),
        ("http:/keys/x", 400),
        ("http:///keys/x", 403),
        ("http://foreign.example/keys/x", 403),
        ("http://user@{api}/keys/x", 403),
        ("/keys/" + 1025 * "k", 400),
    ],
)
def test_what_names_no_key_is_the_same_for_every_method(daemon: Daemon, target: str, status: int) -> None:
    """Nothing is written, and a write's answer says so: `applied` is false, never null."""
    target = target.format(api=daemon.api)
    for method in ("GET", "PUT", "DELETE"):
        told = ask(daemon, method, target, *([PLAIN] if method == "PUT" else []), body=b"v" if method == "PUT" else b"")
        assert (told.status, told.json["applied"]) == (status, False), (method, told)
        assert told.is_problem()


@pytest.mark.parametrize(
    "path", ["/livez/", "//livez", "/livez;x", "/nodes/", "/nodes/0/", "/nodes/0%2Fkill", "/log/", "/events/"]
)
def test_other_routes_are_read_as_strictly(daemon: Daemon, path: str) -> None:
    """A slash too many names nothing, and never a redirection."""
    assert ask(daemon, "GET", path).status == 404


def test_a_route_may_be_percent_encoded(daemon: Daemon) -> None:
    """RFC 3986, 6.2.2.2: a letter and its encoding are the same."""
    assert ask(daemon, "GET", "/%6civez").status == 200
    assert ask(daemon, "GET", "/nodes/%30").json["id"] == 0
    assert ask(daemon, "GET", "/log%2Ehtml").status == 200


def test_a_path_has_one_method_or_says_which(daemon: Daemon) -> None:
    """405 with Allow; OPTIONS has the same; HEAD is GET without a body."""
    for path, allowed in (
        ("/keys/x", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/keys", "GET, HEAD, OPTIONS, POST"),
        ("/nodes/0/kill", "OPTIONS, POST"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/static/main.js", "GET, HEAD, OPTIONS"),
    ):
        told = ask(daemon, "OPTIONS", path)
        assert (told.status, told.headers["allow"], told.body) == (204, allowed, b"")
        for method in ("PATCH", "TRACE", "FOO", "PROPFIND"):
            told = ask(daemon, method, path)
            assert (told.status, told.headers["allow"], told.is_problem()) == (405, allowed, True)
    assert ask(daemon, "OPTIONS", "*").headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST, PUT"
    assert ask(daemon, "OPTIONS", "/nothing").status == 404
    assert ask(daemon, "FOO", "/nothing").status == 404
    assert ask(daemon, "put", "/keys/x", PLAIN, body=b"v").status == 400


def test_head_is_get_without_its_body(daemon: Daemon) -> None:
    """RFC 9110, 9.3.2: the same headers, and what streams does not begin to."""
    daemon.put("head", "v")
    for path in ("/keys/head", "/keys", "/", "/livez", "/static/main.js", "/leader", "/metrics", "/snapshot", "/keys/none"):
        got, told = ask(daemon, "GET", path), ask(daemon, "HEAD", path)
        assert (told.status, told.body) == (got.status, b""), path
        assert told.headers["content-type"] == got.headers["content-type"]
        if path in ("/keys/head", "/", "/snapshot", "/keys/none"):
            assert told.headers["content-length"] == got.headers["content-length"], path
    assert ask(daemon, "HEAD", "/events", "Accept: text/event-stream").status == 200


def test_a_connection_goes_on_after_an_answer(daemon: Daemon) -> None:
    """Keep-alive, after errors too; `Connection: close` and HTTP/1.0 end it."""
    one = request(daemon, "GET", "/keys/none")
    other = request(daemon, "OPTIONS", "/keys")
    wrong = request(daemon, "PUT", "/keys/x", "If-Match: 7", PLAIN, body=b"v")
    live = request(daemon, "GET", "/livez")
    assert [told.status for told in exchange(daemon, one + other + wrong + live)] == [404, 204, 400, 200]
    closing = request(daemon, "GET", "/livez", "Connection: close")
    assert [told.status for told in exchange(daemon, closing + live)] == [200]
    old = request(daemon, "GET", "/livez", version="HTTP/1.0")
    assert [told.status for told in exchange(daemon, old + live)] == [200]


def test_a_target_in_absolute_form_has_a_host_of_ours(daemon: Daemon) -> None:
    """RFC 9112, 3.2.2; and Host must be one, too: neither can be believed alone."""
    assert ask(daemon, "GET", f"http://{daemon.api}/livez").status == 200
    assert ask(daemon, "GET", f"http://{daemon.api}").status == 200
    assert ask(daemon, "GET", f"http://{daemon.api}/livez", "Host: foreign.example").status == 403
    assert ask(daemon, "GET", "http://foreign.example/livez").status == 403


@pytest.mark.parametrize("raw", [b"%2", b"%", b"%g1", b"a%4%41"])
def test_a_percent_sign_that_encodes_nothing_is_refused(raw: bytes) -> None:
    """Others would read another key."""
    with pytest.raises(BargeError, match="two hexadecimal digits"):
        key_of(raw)
    with pytest.raises(BargeError, match="two hexadecimal digits"):
        target_of(b"/x" + raw)
