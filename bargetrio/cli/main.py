"""The group of all commands, and the end of the process."""

import errno
import io
import sys

import click

from bargetrio import __version__, console
from bargetrio.cli import completion, faults, keys, nodes, serving, settings
from bargetrio.cli.backup import snapshot
from bargetrio.cli.replay import replay
from bargetrio.cli.simulate import check, simulate

PROGRAM = "bargetrio"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Barge: a consistent, distributed key:value store on the Raft consensus algorithm."""


for command in (
    *(serving.serve, serving.demo, serving.client),
    *(keys.get, keys.put, keys.delete, keys.list_items, keys.list_keys),
    *(nodes.leader, nodes.status, nodes.kill, nodes.revive, nodes.readmit, nodes.bootstrap, nodes.log),
    *(faults.faults, faults.partition, faults.cut, faults.slow_link, faults.slow_disk, faults.fail_disk, faults.heal),
    *(settings.config, completion.completion, snapshot, simulate, check, replay),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    console.prepare()
    try:
        cli(prog_name=PROGRAM, standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt) as problem:
        from bargetrio.cli.exit_codes import INTERRUPTED, dropping_tracebacks, interrupt_text

        cause = problem if isinstance(problem, KeyboardInterrupt) else problem.__cause__ or problem.__context__
        if not isinstance(cause, KeyboardInterrupt):  # a confirmation that was declined, or not answered
            console.complain("nothing was done")
            sys.exit(1)
        with dropping_tracebacks(problem):
            console.complain(interrupt_text(cause))
        sys.exit(INTERRUPTED)
    except click.ClickException as problem:
        shown = io.StringIO()
        problem.show(shown)
        console.complain(shown.getvalue().rstrip("\n"))
        sys.exit(problem.exit_code)
    except console.InputLost as problem:
        console.complain(str(problem))
        sys.exit(2)
    except console.OutputLost as problem:
        from bargetrio.cli.exit_codes import OUTPUT_LOST

        console.give_up_output()
        if problem.errno == errno.EPIPE:  # the reader has closed the pipe, as `| head` does
            sys.exit(1)
        console.complain(f"{problem}; the request itself was carried out")
        sys.exit(OUTPUT_LOST)
