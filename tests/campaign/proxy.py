"""A proxy in front of each node: it identifies each link, and cuts, delays or narrows one direction of one.

A link carries only its dialler's messages, so cutting the connection that node 1 dialled to node 0 is a one-way cut.
"""

import contextlib
import json
import socket
import threading
import time
from collections import Counter

BUFFER_BYTES = 64 * 1024

Link = tuple[int | None, int]
"""(dialler, dialled); the dialler is None for a client."""


class Proxy:
    """Listens where a node is dialled and passes on to where it listens."""

    def __init__(self, node_id: int, port: int, target: int) -> None:
        self.cut: set[int] = set()
        self.delay_s: dict[int, float] = {}
        self.bytes_s: dict[int, float] = {}
        """The bandwidth that each dialler has to here, of all its connections together; none that is not named."""
        self.carried: Counter[int] = Counter()
        """Bytes that each dialler has sent here."""
        self._free_at: dict[int, float] = {}
        self._node_id = node_id
        self.target = target
        self._open: dict[socket.socket, int | None] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        # A narrow link is no store: what it has not carried yet is to wait at the sender.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_from(self, diallers: set[int]) -> None:
        """From now on what these nodes dial here is cut; what they have dialled ends."""
        self.cut = diallers
        with self._lock:
            ended = [sock for sock, dialler in self._open.items() if dialler in diallers]
        for sock in ended:
            _end(sock)

    def close(self) -> None:
        """Stop listening and end everything."""
        _end(self._listener)
        with self._lock:
            ended = list(self._open)
        for sock in ended:
            _end(sock)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        """Read the hello to identify the dialler, then forward everything."""
        far: socket.socket | None = None
        try:
            near.settimeout(5)
            first = near.recv(65536)
            near.settimeout(None)
            dialler = _dialler(first)
            if not first or dialler in self.cut:
                return
            far = socket.create_connection(("127.0.0.1", self.target), timeout=2)
            far.settimeout(None)
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open[near] = self._open[far] = dialler
            back = threading.Thread(target=self._pump, args=(far, near, None), daemon=True)
            back.start()
            far.sendall(first)
            self._pump(near, far, dialler)
            back.join(5)
        except OSError:
            pass
        finally:
            for end in (near, far):
                if end is not None:
                    _end(end)
                    with self._lock:
                        self._open.pop(end, None)

    def _pump(self, source: socket.socket, target: socket.socket, dialler: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(self._most_bytes(dialler)):
                if dialler is not None:
                    self.carried[dialler] += len(data)
                    time.sleep(self.delay_s.get(dialler, 0.0) + self._takes_s(dialler, len(data)))
                target.sendall(data)
        _end(source)
        _end(target)

    def _most_bytes(self, dialler: int | None) -> int:
        """Return how many bytes to pass on at once: of a narrow link a hundredth of a second's."""
        rate = None if dialler is None else self.bytes_s.get(dialler)
        return 65536 if rate is None else max(100, int(rate / 100))

    def _takes_s(self, dialler: int, size: int) -> float:
        """Return how long the link is busy until so many bytes more have crossed it."""
        rate = self.bytes_s.get(dialler)
        if rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            # What a sleep took too long is made up for, within a tenth of a second.
            free_at = self._free_at[dialler] = max(now - 0.1, self._free_at.get(dialler, 0.0)) + size / rate
        return max(0.0, free_at - now)


def _dialler(first: bytes) -> int | None:
    line = first.partition(b"\n")[0]
    try:
        hello = json.loads(line)
    except ValueError:
        return None
    return hello.get("node") if hello.get("hello") == "peer" else None


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()
