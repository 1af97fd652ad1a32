"""The blocking client library; it finds the leader, again after each election.

```
client.py      the library: keys at the leader (native.py, connection.py) or through a daemon (rest_keys.py), nodes by admin.py
arguments.py   what a caller may give                         interrupted.py   Ctrl-C during a request
```
May import protocol: a program that uses it loads nothing of the server or the command line. Start at client.py.

    >>> with Client(["127.0.0.1:8101", "127.0.0.1:8102", "127.0.0.1:8103"]) as barge:
    ...     barge.put("100", "Some Value")
"""

from bargetrio.client.client import Client
from bargetrio.client.interrupted import Interrupted
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import DeleteAnswer, GetAnswer, Item, ListAnswer, PutAnswer
from bargetrio.protocol.views import DiskFault, Faults, LeaderView, LinkFault, NodeView, PeerView

__all__ = [
    "BargeError",
    "Client",
    "DeleteAnswer",
    "DiskFault",
    "Faults",
    "GetAnswer",
    "Interrupted",
    "Item",
    "LeaderView",
    "LinkFault",
    "ListAnswer",
    "NodeView",
    "PeerView",
    "PutAnswer",
]
