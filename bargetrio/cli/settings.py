"""config check, config show."""

import os

import click

from bargetrio import console
from bargetrio.cli.shared import (
    ENDPOINTS,
    TOKEN_FILE,
    Output,
    check_together,
    config_option,
    fail,
    json_bytes,
    load_configuration,
)

ONE_PER_HOST = "(for one node per host: config check --node ID; what clients read of the file: config check --client)"


@click.group()
def config() -> None:
    """Check the configuration; show every value and where it comes from."""


_for_client = click.option("--client", "for_client", is_flag=True, help="As a client reads it: without the peer secret.")


@config.command()
@config_option
@_for_client
@click.option("--node", "node_ids", type=int, multiple=True, help="For `serve --node` (may repeat).")
def check(config_path: str, for_client: bool, node_ids: tuple[int, ...]) -> None:
    """Say whether `serve` can run with this file, on this machine and as this user, or everything that is wrong with it."""
    from bargetrio.config import ConfigurationError

    check_together("for_client", "node_ids")
    found = load_configuration(config_path, for_client=for_client)
    if not for_client:
        try:
            found.check_runnable(list(node_ids) or None)
        except ConfigurationError as problem:
            hint = "" if node_ids or any(node.api is None for node in found.nodes) else f"\n{ONE_PER_HOST}"
            fail(f"{problem}{hint}", 2)
    many = "1 node" if len(found.nodes) == 1 else f"{len(found.nodes)} nodes"
    console.say(f"{config_path} is right: cluster {found.cluster}, {many}, page and REST at {found.api}")


@config.command()
@config_option
@_for_client
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def show(config_path: str, for_client: bool, as_json: bool) -> None:
    """Show every value in force, and its origin: a line of the file, the environment, or the default. Secrets are not shown."""
    from bargetrio.cli.setting_origins import Setting, settings
    from bargetrio.cli.tables import TableColumn

    found = settings(load_configuration(config_path, for_client=for_client))
    found += [
        Setting(name=f"${name}", value=os.environ[name], origin="the environment, for clients")
        for name in (ENDPOINTS, TOKEN_FILE)
        if os.environ.get(name)
    ]
    if as_json:
        console.say_json(*(json_bytes(setting) for setting in found))
        return
    columns = (TableColumn("key"), TableColumn("value", folds=True), TableColumn("origin", folds=True))
    Output(as_json=False).table(columns, [[one.name, one.text, one.origin] for one in found], None)
