"""client asks: a blocking library and the interactive client; finds the leader and follows it when it changes.

May import protocol only, nothing of the server: a one-shot command starts fast. Start at client.py.

    >>> with Client(["127.0.0.1:8101", "127.0.0.1:8102", "127.0.0.1:8103"]) as barge:
    ...     barge.put("100", "Some Value")
"""

from bargetrio.client.client import Client
from bargetrio.protocol.errors import BargeError

__all__ = ["BargeError", "Client"]
