"""Common options of the client's commands, and their output: --config, --endpoint, --token-file, --timeout, --json.

The cluster is given by the first of `--endpoint`, `--config`, `$BARGE_ENDPOINTS`, ./configuration.yml. An endpoint is the
address of a daemon's page and REST; then keys go through it, too, and no configuration is read unless `--config` is given.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import click

from bargetrio import console
from bargetrio.cli import signals
from bargetrio.files import expanded

if TYPE_CHECKING:
    from bargetrio.cli.tables import TableColumn
    from bargetrio.client.client import Client
    from bargetrio.config import DaemonConfiguration
    from bargetrio.protocol.errors import BargeError

DEFAULT_CONFIG: Final = "configuration.yml"
ENDPOINTS: Final = "BARGE_ENDPOINTS"
TOKEN_FILE: Final = "BARGE_TOKEN_FILE"
TIMEOUT_S: Final = 6.0
NODES_TIMEOUT_S: Final = 10.0
MOST_TIMEOUT_S: Final = 600.0


TEXT: Final = console.restored
"""The type of a key or value as an argument: UTF-8, whatever the locale's encoding is."""


class FiniteNumber(click.FloatRange):
    """A number within limits; `nan` is refused, which click.FloatRange accepts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; fail with a usage error."""
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class UserPath(click.Path):
    """A path on the command line: `~` is expanded, which a shell does not do in `--config=~/barge.yml`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the expanded path, checked as click.Path checks it."""
        try:
            return super().convert(expanded(os.fspath(value)), param, ctx)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


config_option = click.option(
    "--config", "config_path", type=UserPath(), default=DEFAULT_CONFIG, show_default=True, help="The configuration file."
)


class ClusterOptions(NamedTuple):
    """The options of the command line that say where the cluster is."""

    config_path: str | None
    endpoints: tuple[str, ...]
    token_file: str | None
    timeout_s: float | None

    def client(self, *, max_wait_s: float | None = None) -> "Client":
        """Return a client; raise ClickException if the command line or the configuration is invalid.

        `max_wait_s` bounds the time-outs, for completion by Tab.
        """
        from bargetrio.client.client import Client
        from bargetrio.protocol.addresses import dial_address

        endpoints = self._endpoints()
        configuration = None if endpoints and self.config_path is None else load_configuration(self._path(), for_client=True)
        nodes = () if configuration is None else configuration.nodes
        timeout_s = self.timeout_s
        if timeout_s is None:
            timeout_s = TIMEOUT_S if configuration is None else configuration.timing.request_timeout_ms / 1000 + 1
        apis = endpoints
        if not apis:
            assert configuration is not None
            apis = [dial_address(configuration.api), *(node.api for node in nodes if node.api is not None)]
        return Client(
            [] if endpoints else [node.address for node in nodes],
            cluster="barge" if configuration is None else configuration.cluster,
            apis=apis,
            token=self._token(configuration),
            timeout_s=max_wait_s or timeout_s,
            nodes_timeout_s=max_wait_s or max(timeout_s, NODES_TIMEOUT_S if self.timeout_s is None else 0.0),
        )

    def node_ids(self) -> list[int]:
        """Return the ids in the configuration; raise ConfigurationError without one."""
        from bargetrio.config import load

        return [node.id for node in load(Path(self._path()), for_client=True).nodes]

    def _path(self) -> str:
        return self.config_path or DEFAULT_CONFIG

    def _endpoints(self) -> list[str]:
        from bargetrio.protocol.addresses import parse_address

        given = self.endpoints
        where = "--endpoint"
        if not given and self.config_path is None:
            given, where = (os.environ.get(ENDPOINTS, ""),), f"${ENDPOINTS}"
        found: list[str] = []
        for text in (part.strip() for item in given for part in item.replace(",", " ").split()):
            address = (text[len("http://") :] if text.lower().startswith("http://") else text).rstrip("/")
            try:
                parse_address(address)
            except ValueError as problem:
                raise click.UsageError(f"{where}: {problem}") from None
            found.append(address)
        if self.endpoints and not found:
            raise click.UsageError("--endpoint names no address")
        return found

    def _token(self, configuration: "DaemonConfiguration | None") -> bytes | None:
        path = self.token_file or os.environ.get(TOKEN_FILE)
        if not path:
            return None if configuration is None else configuration.api_token
        from bargetrio.protocol.secrets import TOKEN_BYTES, token_of

        try:
            with open(expanded(path), "rb") as file:
                return token_of(file.read(TOKEN_BYTES + 1))
        except OSError as problem:
            raise click.UsageError(f"the token's file {path}: {problem.strerror}") from None
        except ValueError as problem:
            raise click.UsageError(f"the token's file {path} {problem}") from None


def check_together(first: str, second: str) -> None:
    """Raise UsageError if both parameters of the present command are given: one would be ignored."""
    context = click.get_current_context()
    options = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    given = [context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT for name in (first, second)]
    if all(given):
        raise click.UsageError(f"{options[first]} and {options[second]} are not given together", context)


class WrongConfiguration(click.ClickException):
    """The configuration is invalid; the message is printed as it is."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message alone."""
        (file or sys.stderr).write(self.message + "\n")


class Output:
    """Prints answers as text, or with --json as one object a line."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.is_terminal = console.is_terminal()

    @property
    def may_draw(self) -> bool:
        """Whether tables are drawn with rich, and redrawn."""
        from bargetrio.cli.tables import may_draw

        return may_draw(is_terminal=self.is_terminal) and not self.as_json

    def say(self, text: str, fields: Any) -> None:
        """Print the text, or the fields."""
        if self.as_json:
            console.say_json(json_bytes(fields))
        else:
            console.say(text)

    def table(
        self, columns: "Sequence[TableColumn]", rows: Sequence[Sequence[str]], fields: Any, *, notes: Sequence[str] = ()
    ) -> None:
        """Print the rows, drawn with rich at a terminal, and the notes, a line each; or the fields."""
        if self.as_json:
            console.say_json(json_bytes(fields))
            return
        from bargetrio.cli.tables import table

        console.say(table(columns, rows, fancy=self.may_draw), styled=True)
        for note in notes:
            console.say(note)

    def fail(self, error: "BargeError") -> NoReturn:
        """Print the error and exit with its exit code."""
        from bargetrio.cli.exit_codes import error_text, exit_code

        if self.as_json:
            console.complain_json(json_bytes({"error": error.code, "detail": error.detail, "applied": error.applied}))
        else:
            console.complain(error_text(error))
        signals.end()
        sys.exit(exit_code(error))

    def fail_interrupted(self, problem: KeyboardInterrupt) -> NoReturn:
        """Print what is certain after SIGINT or SIGTERM, and exit with 130 or 143."""
        signals.ignore()
        from bargetrio.cli.exit_codes import dropping_tracebacks, interrupt_code, interrupt_fields, interrupt_text

        code = interrupt_code(problem)
        text = json_bytes(interrupt_fields(problem)) if self.as_json else interrupt_text(problem)
        with dropping_tracebacks(problem):
            signals.end()
            console.complain_json(text) if isinstance(text, bytes) else console.complain(text)
        sys.exit(code)


def place_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where the cluster is; the function's first argument is the ClusterOptions."""

    @click.option("--config", "config_path", type=UserPath(), help=f"The configuration file.  [default: {DEFAULT_CONFIG}]")
    @click.option(
        "--endpoint",
        "endpoints",
        multiple=True,
        metavar="HOST:PORT",
        help=f"Ask this daemon's REST API (may repeat, as a fallback); or ${ENDPOINTS}, separated by commas.",
    )
    @click.option("--token-file", type=UserPath(), help=f"The file with the API's token; or ${TOKEN_FILE}.")
    @click.option(
        "--timeout",
        "timeout_s",
        type=FiniteNumber(min=0, min_open=True, max=MOST_TIMEOUT_S),
        metavar="SECONDS",
        help="Seconds to wait for an answer.  [default: request_timeout_ms and a second]",
    )
    @functools.wraps(function)
    def wrapper(
        *arguments: Any,
        config_path: str | None,
        endpoints: tuple[str, ...],
        token_file: str | None,
        timeout_s: float | None,
        **options: Any,
    ) -> None:
        function(ClusterOptions(config_path, endpoints, token_file, timeout_s), *arguments, **options)

    return wrapper


def client_command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of the client: its first arguments are the client and the output; errors end the process."""

    @place_options
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line; errors, too.")
    @functools.wraps(function)
    def wrapper(place: ClusterOptions, *arguments: Any, as_json: bool, **options: Any) -> None:
        from bargetrio.cli import exit_codes  # noqa: F401 - before a signal may raise
        from bargetrio.protocol.errors import BargeError

        output = Output(as_json=as_json)
        client = place.client()
        try:
            try:
                signals.begin(signal.SIGINT, signal.SIGTERM)
                with client as barge:
                    function(barge, output, *arguments, **options)
            except BargeError as error:
                output.fail(error)
            signals.end()
        except KeyboardInterrupt as problem:  # whatever it came in the middle of: also of the message about another error
            output.fail_interrupted(problem)

    return wrapper


def load_configuration(path: str, *, for_client: bool = False) -> "DaemonConfiguration":
    """Return the configuration; raise WrongConfiguration, which prints all errors and ends the process with 2."""
    from bargetrio.config import ConfigurationError, load

    try:
        return load(Path(path), for_client=for_client)
    except ConfigurationError as problem:
        raise WrongConfiguration(str(problem)) from None


def json_bytes(fields: Any) -> bytes:
    """Return the object as JSON."""
    import msgspec

    return msgspec.json.encode(fields)


def fail(text: str, code: int) -> NoReturn:
    """Print the text, and end the process with `code`."""
    console.complain(text)
    sys.exit(code)
