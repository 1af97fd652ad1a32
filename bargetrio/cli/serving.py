"""The commands serve, demo and client."""

import signal
import sys
from functools import partial
from pathlib import Path
from typing import Final

import click

from bargetrio import console
from bargetrio.cli import signals
from bargetrio.cli.shared import ClusterOptions, UserPath, config_option, fail, load_configuration, place_options

NODES: Final = 3
MOST_NODES: Final = 9


@click.command()
@config_option
@click.option("--node", "node_ids", type=int, multiple=True, help="Run only this node (may repeat); default: all.")
@click.option("--debug", is_flag=True, help="Write log.html, the live page with its events as one file, while the cluster runs.")
@click.option("--events", "events_file", type=UserPath(), help="Record every event in this file, as JSON lines.")
def serve(config_path: str, node_ids: tuple[int, ...], debug: bool, events_file: str | None) -> None:
    """Run the nodes of the configuration, with page and REST, until Ctrl-C or SIGTERM."""
    from bargetrio.config import CannotRunHere, ConfigurationError

    configuration = load_configuration(config_path)
    chosen = list(node_ids) or None
    try:
        configuration.check_runnable(chosen)
    except CannotRunHere as problem:
        fail(f"can't start:\n{problem}", 1)
    except ConfigurationError as problem:
        fail(str(problem), 2)
    from bargetrio.daemon.parts import CannotStart
    from bargetrio.daemon.run import serve as run

    try:
        code = run(configuration, chosen, debug=debug, events_file=None if events_file is None else Path(events_file))
    except CannotStart as problem:
        fail(str(problem), 1)
    sys.exit(code)


@click.command()
@click.option("--nodes", type=click.IntRange(1, MOST_NODES), default=NODES, show_default=True, help="How many.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
def demo(nodes: int, open_page: bool) -> None:
    """Run a throwaway cluster until Ctrl-C, on free ports, with data that is removed at the end."""
    from bargetrio.cli.demo import run

    sys.exit(run(nodes, open_page=open_page))


@click.command()
@place_options
def client(place: ClusterOptions) -> None:
    """Talk to the cluster: {key}={value}, get, del, kill, revive, leader, status. Piped input runs as a script."""
    from bargetrio.cli.repl import Repl
    from bargetrio.cli.tables import may_colour, may_draw

    write = partial(console.say, styled=True)
    with place.client() as barge:
        if not console.input_is_terminal():
            signals.begin(signal.SIGINT, signal.SIGTERM)
            sys.exit(Repl(barge, write).run_script(console.input_lines(), console.complain))
        from bargetrio.cli.repl import Style
        from bargetrio.cli.terminal import HELPER_S, reader

        is_terminal = console.is_terminal()
        colours = may_colour(is_terminal=is_terminal)
        draws = may_draw(is_terminal=is_terminal)
        repl = Repl(barge, write, paint=Style(colours=colours), fancy=draws)
        with reader(lambda: place.client(max_wait_s=HELPER_S), colours=colours, plain=not draws) as read:
            signals.begin(signal.SIGINT, signal.SIGTERM)
            sys.exit(repl.run_prompt(read, partial(console.complain, styled=True)))
