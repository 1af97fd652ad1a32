"""`bargetrio client` in a real terminal, against a real cluster: prompt, Tab, history, colours, Ctrl-C, Ctrl-D."""

import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.screen import Terminal, bargetrio, terminal
from tests.client.servers import BadServer, nobody
from tests.stories.daemon import Daemon, running


@contextmanager
def client(daemon: Daemon, *arguments: str, **more: str) -> Iterator[Terminal]:
    """The interactive client at its prompt."""
    with terminal(bargetrio("client", *arguments), daemon.configuration.parent, **more) as screen:
        screen.until("barge>")
        yield screen


def at_prompt(screen: Terminal) -> None:
    """Wait for an empty prompt: between prompts the terminal itself would echo what is typed, and act on control keys."""
    screen.until(lambda: screen.line.endswith("barge>"))


def say(screen: Terminal, line: str, words: str) -> None:
    """Type a line at the prompt; wait for the words, and the next prompt."""
    at_prompt(screen)
    screen.type(f"{line}\n")
    screen.until(words)
    at_prompt(screen)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH that hides prompt-toolkit and rich."""
    for name in ("prompt_toolkit", "rich"):
        (tmp_path / "bare" / name).mkdir(parents=True)
        (tmp_path / "bare" / name / "__init__.py").write_text(f"raise ImportError('no {name} here')\n")
    return tmp_path / "bare"


def test_it_asks_answers_and_goes_on_after_an_error(daemon: Daemon) -> None:
    """The prompt shows leader and term; answers and errors have their colours; tables are drawn; quit ends with 0."""
    leader = daemon.leader()
    term = daemon.node(leader)["term"]
    with client(daemon) as screen:
        assert screen.line == f"[node {leader}, term {term}] barge>"
        say(screen, "get nothing", "not_found: nothing is not there")
        assert screen.colour_of("not_found") == "red"
        say(screen, "tty=yes", "tty=yes  (index")
        assert screen.colour_of("tty=yes  (index") == "green"
        say(screen, "status", "╰")
        screen.type("quit\n")
        assert screen.end() == 0


def test_tab_completes_commands_keys_and_ids(daemon: Daemon) -> None:
    """Seen on the screen; what is chosen is done."""
    daemon.put("tab-one", "1")
    daemon.put("tab-two", "2")
    with client(daemon) as screen:
        screen.type("sta\t")
        screen.until(lambda: screen.line.endswith("barge> status"))
        screen.type("\x15get tab\t")
        screen.until(lambda: screen.line.endswith("barge> get tab-"))
        screen.type("\t")
        screen.until(lambda: screen.line.endswith("barge> get tab-one") and "tab-two" in screen.text)
        screen.type("\t")
        screen.until(lambda: screen.line.endswith("barge> get tab-two"))
        screen.type("\n")
        screen.until("2  (index")
        at_prompt(screen)
        screen.type("tab-o\t")
        screen.until(lambda: screen.line.endswith("barge> tab-one="))
        screen.type("new\n")
        screen.until("tab-one=new  (index")
        screen.type("cut 0 \t")
        screen.until(lambda: [line.strip() for line in screen.text.splitlines()][-2:] == ["1", "2"])
    assert daemon.get("tab-one").json["value"] == "new"


def test_lines_are_remembered(daemon: Daemon, tmp_path: Path) -> None:
    """In this session and the next, in a file of mode 0600."""
    history = tmp_path / "state" / "history"
    with client(daemon, BARGE_HISTORY=str(history)) as screen:
        say(screen, "remembered=1", "remembered=1  (index")
        say(screen, "leader", "leads in term")
        screen.type("\x1b[A\x1b[A")
        screen.until(lambda: screen.line.endswith("barge> remembered=1"))
        screen.type("\x15\x04")
        assert screen.end() == 0
    assert history.stat().st_mode & 0o077 == 0
    with client(daemon, BARGE_HISTORY=str(history)) as screen:
        screen.type("\x1b[A\x1b[A")
        screen.until(lambda: screen.line.endswith("barge> remembered=1"))


def test_a_history_that_cannot_be_written_is_none(daemon: Daemon) -> None:
    """The session continues with its history in memory."""
    with client(daemon, BARGE_HISTORY="/proc/nowhere/history") as screen:
        say(screen, "leader", "leads in term")
        screen.type("\x1b[A")
        screen.until(lambda: screen.line.endswith("barge> leader"))


@pytest.mark.parametrize("has_toolkit", [True, False])
def test_ctrl_c_gives_up_the_line_and_ctrl_d_leaves(daemon: Daemon, bare: Path, has_toolkit: bool) -> None:
    """With prompt-toolkit and without."""
    more = {} if has_toolkit else {"PYTHONPATH": str(bare)}
    with client(daemon, **more) as screen:
        screen.type("never=1")
        screen.until(lambda: screen.line.endswith("never=1"))
        screen.type("\x03")
        screen.until(lambda: screen.line.endswith("barge>"))
        say(screen, "ctrl-c=1", "ctrl-c=1  (index")
        screen.until(lambda: screen.line.endswith("barge>"))
        screen.type("\x04")
        assert screen.end() == 0
    assert daemon.get("never").status == 404


def test_without_prompt_toolkit_and_rich_it_asks_plainly(daemon: Daemon, bare: Path) -> None:
    """The same commands, prompt and colours; tables without lines."""
    with client(daemon, PYTHONPATH=str(bare)) as screen:
        assert f"[node {daemon.leader()}, term " in screen.line
        say(screen, "plain=yes", "plain=yes  (index")
        say(screen, "get nothing", "not_found")
        assert screen.colour_of("not_found") == "red"
        say(screen, "status", "node  state")
        assert "╭" not in screen.text
        screen.type("quit\n")
        assert screen.end() == 0


def test_colours_can_be_unwelcome(daemon: Daemon) -> None:
    """NO_COLOR."""
    with client(daemon, NO_COLOR="1") as screen:
        say(screen, "get nothing", "not_found")
        assert screen.colour_of("not_found") == "default"
        assert b"\x1b[31m" not in screen.raw


def test_the_prompt_follows_the_leader(tmp_path: Path) -> None:
    """Without a key being pressed: a new leader, none, and one again; what is typed stays."""
    with running(tmp_path) as daemon, client(daemon) as screen:
        first = daemon.leader()
        screen.until(f"[node {first}, term ")
        screen.type("half a li")
        daemon.kill_node(first)
        second = daemon.leader()
        assert second != first
        screen.until(lambda: screen.line.startswith(f"[node {second}, term ") and screen.line.endswith("half a li"))
        daemon.kill_node(second)
        screen.until(lambda: screen.line == "[no leader] barge> half a li")
        daemon.revive_node(second)
        screen.until(lambda: screen.line.startswith("[node ") and screen.line.endswith("half a li"))


def test_a_time_out_says_that_the_write_may_have_happened(daemon: Daemon) -> None:
    """Against a daemon that takes the write and says nothing; Ctrl-C does not wait; the session goes on."""
    with BadServer("rest", None) as server, client(daemon, "--endpoint", server.address, "--timeout", "1.5") as screen:
        assert screen.line == "[no leader] barge>"
        say(screen, "slow=1", "outcome_unknown")
        screen.until("the write may have happened: read the key before you repeat it")
        screen.until(lambda: screen.line.endswith("barge>"))
        server.heard.clear()
        screen.type("slow=2\n")
        screen.until(lambda: any(b'"2"' in asked for asked in server.asked))
        screen.type("\x03")
        screen.until("interrupted: the write may have happened")
        assert sum(b"POST" in asked for asked in server.asked) == 2
        screen.until(lambda: screen.line.endswith("barge>"))
        screen.type("\x04")
        assert screen.end() == 0


@pytest.mark.parametrize("toolkit", [True, False], ids=["toolkit", "plain"])
@pytest.mark.parametrize("typed", ["", "half a li", "slow=1\n"], ids=["prompt", "line", "request"])
def test_sigterm_says_what_is_certain_and_leaves_the_terminal_as_it_was(
    daemon: Daemon, bare: Path, typed: str, toolkit: bool
) -> None:
    """At the prompt, too, where the terminal is in raw mode; exit code 143."""
    more = {} if toolkit else {"PYTHONPATH": f"{bare}:{os.environ.get('PYTHONPATH', '')}"}
    with BadServer("rest", None) as server, client(daemon, "--endpoint", server.address, **more) as screen:
        screen.type(typed)
        if typed.endswith("\n"):
            screen.until(lambda: any(b"POST" in asked for asked in server.asked))
        else:
            screen.until(lambda: screen.line.endswith(typed))
        screen.process.send_signal(signal.SIGTERM)
        screen.until("terminated: the write may have happened: " if typed.endswith("\n") else "terminated")
        assert screen.end() == 143
        assert screen.is_cooked
        assert "Traceback" not in screen.text


def test_a_cluster_that_stops_and_comes_back(tmp_path: Path) -> None:
    """The session continues: an error in between, and it works again."""
    with running(tmp_path) as daemon:
        daemon.put("before", "1")
        with client(daemon, "--timeout", "0.5") as screen:
            daemon.stop()
            screen.until("[no leader] barge>")
            say(screen, "get before", "nothing was changed")
            daemon.start()
            daemon.leader()
            screen.until(lambda: screen.line.startswith("[node "))
            say(screen, "get before", "1  (index")


def test_status_is_redrawn_in_its_place(daemon: Daemon) -> None:
    """At a terminal: one table, which changes; Ctrl-C ends with 130."""
    follower = min({0, 1, 2} - {daemon.leader()})
    folder = daemon.configuration.parent
    with terminal(bargetrio("status", "--watch", "--interval", "0.1"), folder) as screen:
        screen.until("╭")
        daemon.kill_node(follower)
        screen.until("killed")
        assert screen.text.count("╭") == 1
        assert screen.colour_of("killed") == "red"
        daemon.revive_node(follower)
        screen.until(lambda: "killed" not in screen.text and screen.text.count("running") == 3)
        screen.type("\x03")
        assert screen.end() == 130
        assert "Traceback" not in screen.text
    daemon.wait_for(daemon.caught_up, "the revived node to catch up")


def test_the_log_is_followed_in_a_terminal(daemon: Daemon) -> None:
    """In sentences, as it happens."""
    with terminal(bargetrio("log", "--follow", "--limit", "1"), daemon.configuration.parent) as screen:
        screen.until("node ")
        daemon.put("followed", "in a terminal")
        screen.until('{key: followed, value: "in a terminal"}')
        screen.process.send_signal(signal.SIGINT)
        assert screen.end() == 130


def test_by_endpoints_the_first_of_which_does_not_answer(daemon: Daemon) -> None:
    """Prompt, Tab and writes go to the next."""
    with client(daemon, BARGE_ENDPOINTS=f"{nobody()},{daemon.api}") as screen:
        assert screen.line == f"[node {daemon.leader()}, term {daemon.node(daemon.leader())['term']}] barge>"
        say(screen, "by-endpoint=1", "by-endpoint=1  (index")
        screen.type("get by-e\t")
        screen.until(lambda: screen.line.endswith("barge> get by-endpoint"))


def test_an_output_that_is_no_terminal_gets_a_plain_prompt(daemon: Daemon, tmp_path: Path) -> None:
    """No escapes in a file."""
    out = tmp_path / "out"
    command = ["/bin/sh", "-c", f"exec {shlex.join(bargetrio('client'))} > {shlex.quote(str(out))}"]
    with terminal(command, daemon.configuration.parent) as screen:
        screen.until(lambda: out.exists() and "barge> " in out.read_text())
        screen.type("leader\nget nothing\nquit\n")
        assert screen.end() == 0
        assert "not_found" in screen.text
    assert "leads in term" in out.read_text()
    assert "\x1b" not in out.read_text()


def test_a_dumb_terminal_gets_plain_text(daemon: Daemon) -> None:
    """No table is drawn there, and nothing is coloured."""
    with client(daemon, TERM="dumb") as screen:
        screen.type("status\nget nothing\nquit\n")
        assert screen.end() == 0
        assert "node  state" in screen.text
        assert "not_found" in screen.text
        assert b"\x1b" not in screen.raw


def test_a_value_cannot_command_the_terminal(daemon: Daemon) -> None:
    """`get` at a terminal writes escapes out; into a pipe they go as they are."""
    daemon.put("escape", "a\x1b[31mb")
    for command in ("get", "list"):
        with terminal(bargetrio(command, "escape"), daemon.configuration.parent) as screen:
            assert screen.end() == 0
            assert "a\\x1b[31mb" in screen.text
