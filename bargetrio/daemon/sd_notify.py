"""The protocol of sd_notify(3), one datagram a message: READY, STATUS, STOPPING, and WATCHDOG while the nodes' loops run."""

import os
import socket
from contextlib import suppress


class Notifier:
    """Sends to $NOTIFY_SOCKET; does nothing where there is none."""

    def __init__(self, address: str | None = None) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        if self._address.startswith("@"):  # an abstract socket
            self._address = "\0" + self._address[1:]

    def send(self, *lines: str) -> None:
        """Send `lines` in one message; errors are ignored."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self._address)
            sock.send("\n".join(lines).encode())


def watchdog_interval_s() -> float | None:
    """Return the interval of watchdog notifications (half of WATCHDOG_USEC), None if systemd does not expect any."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 2_000_000
