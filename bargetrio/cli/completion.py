"""Shell completion: the script for bash, zsh or fish, and the completions of keys and nodes."""

from typing import TYPE_CHECKING, Final

import click

from bargetrio import console
from bargetrio.cli.shared import ClusterOptions

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MAX_WAIT_S: Final = 1.0
"""Who pressed Tab does not wait longer."""
VARIABLE: Final = "_BARGETRIO_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands, options, keys and nodes.

    \b
    bash: eval "$(bargetrio completion bash)"       in ~/.bashrc
    zsh:  eval "$(bargetrio completion zsh)"        in ~/.zshrc
    fish: bargetrio completion fish | source        in config.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    program = context.find_root()
    # Not .source(): it would run bash to check its version, and print to the standard output of our script.
    script = found(program.command, {}, program.info_name or "bargetrio", VARIABLE)
    console.say(script.source_template % script.source_vars())


def known_keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Return the first keys with this prefix."""
    from click.shell_completion import CompletionItem

    from bargetrio.cli.terminal import offered_keys

    try:
        with _place(context).client(max_wait_s=MAX_WAIT_S) as barge:
            return [CompletionItem(key) for key in offered_keys(barge, incomplete)]
    except click.ClickException:
        return []


def known_nodes(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Return the node ids with this prefix."""
    from click.shell_completion import CompletionItem

    from bargetrio.config import ConfigurationError
    from bargetrio.protocol.errors import BargeError

    place = _place(context)
    try:
        ids = place.node_ids()
    except ConfigurationError:
        try:
            with place.client(max_wait_s=MAX_WAIT_S) as barge:
                ids = [node.id for node in barge.nodes()]
        except (BargeError, click.ClickException):
            return []
    return [CompletionItem(str(node_id)) for node_id in ids if str(node_id).startswith(incomplete)]


def _place(context: click.Context) -> ClusterOptions:
    """Return the options of the cluster that are to the left of the cursor."""
    given = context.params
    return ClusterOptions(given.get("config_path"), tuple(given.get("endpoints") or ()), given.get("token_file"), None)
