"""What protocols.py overrides is there to be overridden, in the hypercorn that is installed."""

import pytest
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer

from bargetrio.web.http_connection import HttpConnection
from bargetrio.web.protocols import H2, H11, AppTasks


@pytest.mark.parametrize(
    ("own", "theirs", "names"),
    [
        (H11, H11Protocol, ["handle", "_check_protocol", "_create_stream", "_send_error_response"]),
        (H2, H2Protocol, ["handle", "stream_send", "_handle_events", "_create_stream"]),
        (AppTasks, TaskGroup, ["spawn_app"]),
        (HttpConnection, TCPServer, ["protocol_send", "_read_data"]),
    ],
)
def test_hypercorn_has_what_is_overridden(own: type, theirs: type, names: list[str]) -> None:
    """A method with another name in another version would silently not be overridden."""
    for name in names:
        assert getattr(theirs, name).__code__.co_argcount == getattr(own, name).__code__.co_argcount, name
    for name in ("_flush", "_close_stream"):
        assert hasattr(H2Protocol, name)
    for name in ("_send_h11_event", "_maybe_recycle"):
        assert hasattr(H11Protocol, name)
    assert hasattr(TCPServer, "_idle_timeout")
