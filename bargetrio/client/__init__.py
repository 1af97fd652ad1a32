"""client is the blocking library and the interactive client; it finds the leader and follows it when it changes.

```
port.py        what a client can do; the library and the tests' fake are both it
client.py      the library: keys at the leader (native.py, connection.py) or through a daemon (rest_keys.py), nodes by admin.py
repl.py        understands one line at a time                 words.py     the lines it understands, and how Tab completes them
terminal.py    prompt, history, Tab, with prompt-toolkit      tables.py    rows as text, with rich or without
outcome.py     what an error means: exit code, certainty      faults.py    a partition, a cut link, a slow disk, put to the rest
```
May import protocol only, nothing of the server: a one-shot command starts fast. Start at client.py.

    >>> with Client(["127.0.0.1:8101", "127.0.0.1:8102", "127.0.0.1:8103"]) as barge:
    ...     barge.put("100", "Some Value")
"""

from bargetrio.client.client import Client
from bargetrio.client.outcome import Interrupted
from bargetrio.protocol.errors import BargeError

__all__ = ["BargeError", "Client", "Interrupted"]
