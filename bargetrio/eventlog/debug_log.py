"""log.html of a running daemon: `serve --debug` rewrites it at most once a second, and at the end."""

from collections.abc import Callable
from pathlib import Path

import trio

from bargetrio.eventlog.recorder import Recorder
from bargetrio.eventlog.render import LogView, log_html
from bargetrio.files import replacing


class DebugLog:
    """Replaces the file atomically, so that readers see a complete page. It has keys and values: its mode is 0600.

    `look` copies the state in the event loop, and returns a function that renders it in a thread.
    """

    def __init__(self, path: Path, recorder: Recorder, look: Callable[[], Callable[[], LogView]]) -> None:
        self._path = path
        self._recorder = recorder
        self._look = look
        self._seq = -1

    async def run(self) -> None:
        """Write after every change, until cancelled."""
        while True:
            await self._recorder.wait(self._seq)
            self._seq = self._recorder.last_seq
            await trio.to_thread.run_sync(self._write, self._look())
            await trio.sleep(1)

    def finish(self) -> None:
        """Write the last state."""
        self._write(self._look())

    def _write(self, view: Callable[[], LogView]) -> None:
        document = log_html(view())[0]
        with replacing(self._path, sync=False) as file:
            file.write(document.encode())
