"""A server that does nothing: what a load generator can do at most, and what this machine can do at most today.

    python benchmarks/echo.py --port 9000                    # answers each line of the client protocol at once
    python benchmarks/echo.py --port 9000 --http             # answers each HTTP request at once
    python benchmarks/echo.py --port 9000 --work FILE        # decodes, keeps, writes, syncs, encodes: one durable copy

With `--work` it is a yardstick: what a pass over all connections, msgspec and one fdatasync a pass cost in plain Python, without
Raft and without a second copy. tests/benchmarks compares Barge with it: on a shared machine the ratio says more than any figure.
"""

import argparse
import os
import select
import socket
from contextlib import suppress
from typing import Any

import msgspec

HELLO = b'{"hello":"node","protocol":1,"cluster":"barge","node":0}\n'
BODY = b'{"key":"key000007919","index":1000000,"term":3}'
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Server:
    """Connections, an epoll, and what was left of a line."""

    def __init__(self, port: int, *, http: bool, work: str | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, socket.socket] = {}
        self._rest: dict[int, bytes] = {}
        self._greeted: set[int] = set()
        self._http = http
        self._file = None if work is None else os.open(work, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._kept: dict[str, str] = {}
        self._index = 0
        if self._file is not None:
            os.posix_fallocate(self._file, 0, 256 * 2**20)

    def run(self) -> None:
        """Serve until killed."""
        while True:
            answers: list[tuple[socket.socket, bytes]] = []
            records: list[bytes] = []
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._listener.fileno():
                    self._accept()
                    continue
                connection = self._connections[descriptor]
                try:
                    data = connection.recv(256 * 1024)
                except ConnectionResetError:
                    data = b""
                if not data:
                    self._epoll.unregister(descriptor)
                    self._connections.pop(descriptor).close()
                    continue
                answers.append((connection, HTTP if self._http else self._answer(descriptor, data, records)))
            if records and self._file is not None:
                os.write(self._file, b"".join(records))
                os.fdatasync(self._file)
                if os.lseek(self._file, 0, os.SEEK_CUR) > 200 * 2**20:
                    os.lseek(self._file, 0, os.SEEK_SET)
            for connection, answer in answers:
                with suppress(ConnectionError):  # read as an end the next time
                    connection.sendall(answer)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection.fileno()] = connection
        self._rest[connection.fileno()] = b""
        self._greeted.discard(connection.fileno())
        self._epoll.register(connection, select.EPOLLIN)

    def _answer(self, descriptor: int, data: bytes, records: list[bytes]) -> bytes:
        lines = (self._rest[descriptor] + data).split(b"\n")
        self._rest[descriptor] = lines.pop()
        hello = b""
        if descriptor not in self._greeted and lines:
            self._greeted.add(descriptor)
            del lines[0]
            hello = HELLO
        if self._file is not None:
            return hello + b"".join([self._work(line, records) for line in lines])
        return hello + b"".join([b'%b,"ok":true,%b\n' % (line[: line.index(b",")], BODY[1:]) for line in lines])

    def _work(self, line: bytes, records: list[bytes]) -> bytes:
        request: Any = msgspec.json.decode(line)
        records.append(line + b"\n")
        self._index += 1
        self._kept[request["key"]] = request["value"]
        answer = {"id": request["id"], "ok": True, "key": request["key"], "index": self._index, "term": 1}
        return msgspec.json.encode(answer) + b"\n"


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--work", metavar="FILE")
    arguments = parser.parse_args()
    Server(arguments.port, http=arguments.http, work=arguments.work).run()


if __name__ == "__main__":
    main()
