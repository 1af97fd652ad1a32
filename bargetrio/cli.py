"""The command line: `bargetrio serve`, the interactive client, and one-shot commands.

Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 not found, 4 precondition failed, 5 unavailable, 6 outcome unknown,
130 interrupted. Commands of the client never import the server.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from bargetrio import __version__
from bargetrio.backup import snapshot
from bargetrio.client.client import Client
from bargetrio.client.repl import EXIT_CODES, Repl, status_lines, told
from bargetrio.config import Configuration, ConfigurationError, load
from bargetrio.eventlog.replay import replay
from bargetrio.protocol.errors import BargeError
from bargetrio.simulator.commands import check, simulate

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(),
    default="configuration.yml",
    show_default=True,
    help="The configuration file.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bargetrio")
def cli() -> None:
    """Barge: a consistent, distributed key:value store on the Raft consensus algorithm."""


@cli.command()
@_config_option
@click.option("--node", "node_ids", type=int, multiple=True, help="Run only this node (may repeat); default: all.")
@click.option("--debug", is_flag=True, help="Write log.html, the event log as one file, as the cluster runs.")
@click.option("--events", "events_file", type=click.Path(), help="Record every event in this file, as JSON lines.")
def serve(config_path: str, node_ids: tuple[int, ...], debug: bool, events_file: str | None) -> None:
    """Run the nodes of the configuration, with page and REST, until Ctrl-C or SIGTERM."""
    configuration = _load(config_path)
    chosen = list(node_ids) or None
    try:
        configuration.check_runnable(chosen)
    except ConfigurationError as problem:
        _fail(str(problem), 2)
    from bargetrio.daemon import CannotStart
    from bargetrio.daemon import serve as run

    try:
        code = run(configuration, chosen, debug=debug, events_file=None if events_file is None else Path(events_file))
    except CannotStart as problem:
        _fail(str(problem), 1)
    sys.exit(code)


@cli.command()
@_config_option
def client(config_path: str) -> None:
    """Talk to the cluster: {key}={value}, get, del, kill, revive, leader, status. Piped input runs as a script."""
    with _client(config_path) as barge:
        repl = Repl(barge, click.echo)
        code = repl.run_prompt(input, _complain) if sys.stdin.isatty() else repl.run_script(sys.stdin, _complain)
    sys.exit(code)


@cli.command()
@_config_option
@click.argument("key")
@click.argument("value")
@click.option("--if-index", type=int, help="Only if the key's last change has this index (0: it does not exist).")
@click.option("--if-absent", is_flag=True, help="Only if the key is new.")
def put(config_path: str, key: str, value: str, if_index: int | None, if_absent: bool) -> None:
    """Write a key; VALUE - is read from standard input."""
    data: str | bytes = sys.stdin.buffer.read() if value == "-" else value

    def work(barge: Client) -> None:
        answer = barge.put(key, data, if_index=if_index, if_absent=if_absent)
        click.echo(f"index {answer.index}, term {answer.term}")

    _once(config_path, work)


@cli.command()
@_config_option
@click.argument("key")
def get(config_path: str, key: str) -> None:
    """Read a key."""

    def work(barge: Client) -> None:
        answer = barge.get(key)
        if answer.index == 0:
            raise BargeError("not_found", f"{key} is not there")
        click.echo(answer.value if answer.value is not None else answer.value_b64)

    _once(config_path, work)


@cli.command()
@_config_option
@click.argument("key")
@click.option("--if-index", type=int, help="Only if the key's last change has this index.")
def delete(config_path: str, key: str, if_index: int | None) -> None:
    """Remove a key."""

    def work(barge: Client) -> None:
        answer = barge.delete(key, if_index=if_index)
        if not answer.deleted:
            raise BargeError("not_found", f"{key} is not there")
        click.echo(f"index {answer.index}, term {answer.term}")

    _once(config_path, work)


@cli.command()
@_config_option
def leader(config_path: str) -> None:
    """Say who leads."""

    def work(barge: Client) -> None:
        found = barge.leader()
        click.echo(f"node {found['leader']} leads in term {found['term']}, at {found['address']}")

    _once(config_path, work)


@cli.command()
@_config_option
def status(config_path: str) -> None:
    """Show every node."""
    _once(config_path, lambda barge: click.echo("\n".join(status_lines(barge))))


@cli.command()
@_config_option
@click.argument("node_id", type=int)
def kill(config_path: str, node_id: int) -> None:
    """Crash a node."""

    def work(barge: Client) -> None:
        click.echo(f"node {node_id} is killed" if barge.kill(node_id) else f"node {node_id} does not run")

    _once(config_path, work)


@cli.command()
@_config_option
@click.argument("node_id", type=int)
def revive(config_path: str, node_id: int) -> None:
    """Start a node again."""

    def work(barge: Client) -> None:
        click.echo(f"node {node_id} is revived" if barge.revive(node_id) else f"node {node_id} runs already")

    _once(config_path, work)


@cli.command()
@_config_option
@click.argument("node_id", type=int)
@click.confirmation_option(prompt="Do the other nodes run, all of them, and is the old disk gone for good?")
def readmit(config_path: str, node_id: int) -> None:
    """Take in a node whose disk was lost and replaced by an empty one; it runs already, and its peers refuse it."""

    def work(barge: Client) -> None:
        barge.readmit(node_id)
        click.echo(f"node {node_id} may come back; it votes again when it has caught up")

    _once(config_path, work)


cli.add_command(simulate)
cli.add_command(check)
cli.add_command(snapshot)
cli.add_command(replay)


def main() -> None:
    """Run the command line."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except click.ClickException as problem:
        problem.show()
        sys.exit(problem.exit_code)


def _once(config_path: str, work: Callable[[Client], None]) -> None:
    with _client(config_path) as barge:
        try:
            work(barge)
        except BargeError as error:
            _fail(told(error), EXIT_CODES.get(error.code, 1))


def _client(config_path: str) -> Client:
    configuration = _load(config_path, for_client=True)
    nodes = configuration.nodes
    return Client(
        [node.address for node in nodes],
        cluster=configuration.cluster,
        apis=[configuration.api, *(node.api for node in nodes if node.api is not None)],
        token=configuration.api_token,
        timeout_s=configuration.timing.request_timeout_ms / 1000 + 1,
    )


def _load(path: str, *, for_client: bool = False) -> Configuration:
    try:
        return load(Path(path), for_client=for_client)
    except ConfigurationError as problem:
        _fail(str(problem), 2)


def _complain(text: str) -> None:
    click.echo(text, err=True)


def _fail(text: str, code: int) -> NoReturn:
    _complain(text)
    sys.exit(code)
