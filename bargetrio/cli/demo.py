"""`bargetrio demo`: a cluster on free ports with data that is gone at the end.

The cluster is a `bargetrio serve` of its own: this process writes its configuration, makes the first write, waits, and
cleans up.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from bargetrio import console
from bargetrio.cli.free_ports import free_ports

TIMING: Final = "timing: {heartbeat_ms: 50, election_ms: [200, 400]}"
"""Shorter than the default, for a fast first election; long enough within one process."""
FIRST_WRITE_S: Final = 20.0
TRY_S: Final = 0.5
STOP_S: Final = 5.0
OURS_ALONE: Final = ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables that systemd sets for a service, removed for the demo: it writes in its own folder only."""
_PR_SET_PDEATHSIG: Final = 1


class _Stop(BaseException):
    """Ctrl-C, SIGTERM, or the terminal was closed."""


def run(nodes: int, *, open_page: bool) -> int:
    """Run the demo until Ctrl-C; return the exit code."""
    began = time.monotonic()
    code = 0
    console.keep_running()
    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        try:
            folder = Path(tempfile.mkdtemp(prefix="barge-demo-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            api, addresses = _write_configuration(folder / "configuration.yml", nodes)
            process = _start(folder / "configuration.yml")
            stack.callback(_end, process)
            first_write(process, api, addresses, began, open_page=open_page)
            code = process.wait()
        except _Stop:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # ending already
    if code:
        console.complain(f"the cluster ended with {code}")
    return 1 if code else 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _write_configuration(path: Path, nodes: int) -> tuple[str, list[str]]:
    """Write the configuration; return the addresses of its REST and its nodes."""
    api, *addresses = (f"127.0.0.1:{port}" for port in free_ports(nodes + 1))
    lines = ["cluster: demo", f"api: {api}", "data_dir: data", TIMING, "nodes:"]
    lines += [f"  - {{id: {node_id}, address: {address}}}" for node_id, address in enumerate(addresses)]
    path.write_text("\n".join(lines) + "\n")
    return api, addresses


def _start(configuration: Path) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if name not in OURS_ALONE}
    return subprocess.Popen(
        [sys.executable, "-m", "bargetrio", "serve", "--config", str(configuration)],
        stdin=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # this process handles Ctrl-C: it stops the cluster and cleans up
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has no other thread
    )


def _die_with_parent() -> None:
    """Have the kernel end the cluster if this process is killed by SIGKILL (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def first_write(process: "subprocess.Popen[bytes]", api: str, addresses: list[str], began: float, *, open_page: bool) -> None:
    """Write a key as soon as there is a leader, and print it; give up if the cluster ended, or takes too long."""
    from bargetrio.client.client import Client  # while the cluster starts
    from bargetrio.protocol.errors import BargeError

    with Client(addresses, cluster="demo", timeout_s=TRY_S) as barge:
        while process.poll() is None and time.monotonic() - began < FIRST_WRITE_S:
            with suppress(BargeError):
                # Retried if the outcome is unknown: the write is idempotent, and there is no other client yet.
                answer = barge.put("hello", "world")
                seconds = time.monotonic() - began
                console.say(f"hello=world  (index {answer.index}, term {answer.term}), {seconds:.1f} s after the start")
                break
    if process.poll() is not None:
        return
    console.say(f"page: http://{api}/")
    console.say(f"in another terminal: bargetrio client --endpoint {api}")
    if open_page:
        import webbrowser

        webbrowser.open(f"http://{api}/")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop it as Ctrl-C would."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
