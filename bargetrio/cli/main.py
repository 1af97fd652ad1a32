"""The group of all commands, and the end of the process."""

import errno
import io
import sys

import click

from bargetrio import __version__, console
from bargetrio.cli import completion, faults, keys, nodes, serving, settings, signals
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
    *(nodes.leader, nodes.transfer, nodes.status, nodes.kill, nodes.revive, nodes.readmit, nodes.bootstrap, nodes.log),
    *(faults.faults, faults.partition, faults.cut, faults.slow_link, faults.slow_disk, faults.fail_disk, faults.heal),
    *(settings.config, completion.completion, snapshot, simulate, check, replay),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line, and end the process; a signal ends it without a traceback at any moment."""
    console.prepare()
    try:
        code = _run()
        signals.end()
    except (click.exceptions.Abort, KeyboardInterrupt) as problem:  # click makes the one of the other
        signals.ignore()
        from bargetrio.cli.exit_codes import dropping_tracebacks, interrupt_code, interrupt_text

        cause = _interrupt_of(problem)
        assert cause is not None
        code, text = interrupt_code(cause), interrupt_text(cause)
        with dropping_tracebacks(problem):
            signals.end()
            console.complain(text)
    sys.exit(code)


def _run() -> int:
    """Run the command; return the exit code. Raises KeyboardInterrupt, or Abort because of one."""
    try:
        cli(prog_name=PROGRAM, standalone_mode=False)
    except SystemExit as end:
        assert end.code is None or isinstance(end.code, int)
        return end.code or 0
    except click.exceptions.Abort as problem:
        if _interrupt_of(problem) is not None:
            raise
        console.complain("nothing was done")  # a confirmation that was declined, or not answered
        return 1
    except click.ClickException as problem:
        shown = io.StringIO()
        problem.show(shown)
        console.complain(shown.getvalue().rstrip("\n"))
        return problem.exit_code
    except console.InputLost as problem:
        console.complain(str(problem))
        return 2
    except console.OutputLost as problem:
        from bargetrio.cli.exit_codes import OUTPUT_LOST

        console.give_up_output()
        if problem.errno == errno.EPIPE:  # the reader has closed the pipe, as `| head` does
            return 1
        console.complain(f"{problem}; the request itself was carried out")
        return OUTPUT_LOST
    return 0


def _interrupt_of(problem: BaseException) -> KeyboardInterrupt | None:
    """Return the KeyboardInterrupt that this is, or that click made an Abort of."""
    cause = problem if isinstance(problem, KeyboardInterrupt) else problem.__cause__ or problem.__context__
    return cause if isinstance(cause, KeyboardInterrupt) else None
