"""log.html as the cluster runs: `serve --debug` writes it anew at most once a second, and a last time at the end."""

import os
from collections.abc import Callable
from pathlib import Path

import trio

from bargetrio.eventlog.recorder import Recorder
from bargetrio.eventlog.render import LogView, log_html


class DebugLog:
    """Rewrites one file as a whole: whoever opens it sees a complete page.

    `look` takes what there is, in the loop; what it returns makes a view of that, in a thread.
    """

    def __init__(self, path: Path, recorder: Recorder, look: Callable[[], Callable[[], LogView]]) -> None:
        self._path = path
        self._recorder = recorder
        self._look = look
        self._seq = -1

    async def run(self) -> None:
        """Write whenever something happened, until cancelled."""
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
        temporary = self._path.with_name(self._path.name + ".new")
        temporary.write_text(document, encoding="utf-8")
        os.replace(temporary, self._path)
