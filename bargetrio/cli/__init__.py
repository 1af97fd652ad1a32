"""The command line: parses arguments, calls the client library or the server, prints, and sets the exit code.

```
main.py      every command, and the end of the process     shared.py    --config, --endpoint, --json: where to ask, how to answer
keys.py      get, put, delete, list, keys                  nodes.py     leader, status, log; transfer, kill, ..., bootstrap
faults.py    partition, cut, slow-link, ..., heal          serving.py   serve, demo, and the interactive client
settings.py  config check, config show                     backup.py    snapshot save, inspect, restore
completion.py  Tab in bash, zsh and fish                  events.py    the event log as lines, followed
repl.py      the interactive client, a line at a time      repl_commands.py  the lines it understands, and how Tab completes them
terminal.py  its prompt, history and Tab                   tables.py    rows as text, with rich or without
exit_codes.py  what an error means: exit code, certainty  fault_edits.py  one fault, put to those in force
simulate.py  simulate, check                              replay.py    recorded runs as the live page
signals.py   Ctrl-C and SIGTERM, raised in a command
client_calls.py  what of the client library is used here  setting_origins.py  where each value of a configuration comes from
```
Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 not found, 4 precondition failed, 5 unavailable, 6 outcome unknown,
7 answer not written, 130 interrupted, 143 terminated. May import client, protocol, eventlog, config, console and files;
when a command that needs it runs, so that the others start fast, also daemon, storage, kv and simulator. Start at main.py.
"""

from bargetrio.cli.main import cli, main

__all__ = ["cli", "main"]
