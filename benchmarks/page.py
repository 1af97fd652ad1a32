"""What an open page costs: the put rate without a reader, with a live stream, and with a real Chromium; and the page's memory.

    python -m benchmarks.page --rounds 4 --seconds 5 --minutes 3

The rates are taken in turns, so that a machine that becomes slower becomes so for all of them. A browser takes its share of the
same cores; the stream alone is what the daemon pays. Then the page stays open under full load, and its memory is sampled.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.browser.chrome import ARGUMENTS, chromium
from tests.stories.daemon import Daemon, running
from tests.tools import need

LOAD = Path(__file__).parent / "load.py"


def measure(daemon: Daemon, shape: str, seconds: float) -> tuple[float, float]:
    """Return puts a second, and the daemon's processor time for each in microseconds: others on the machine change that less."""
    before = cpu_s(daemon)
    arguments = ["--config", str(daemon.configuration), "--shape", shape, "--seconds", str(seconds), "--warm-up", "0", "--json"]
    done = subprocess.run([sys.executable, str(LOAD), *arguments], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    return float(result["rate"]), (cpu_s(daemon) - before) * 1e6 / result["answers"]


def cpu_s(daemon: Daemon) -> float:
    """Return the seconds of processor time that the daemon has used."""
    assert daemon.process is not None
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def stream(daemon: Daemon, seen: dict[str, int]) -> Iterator[None]:
    """A reader of the live stream that takes what comes and makes nothing of it."""
    connection = HTTPConnection(daemon.api, timeout=10)
    connection.request("GET", "/events?live=1", headers={"Accept": "text/event-stream"})
    response = connection.getresponse()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            line = response.readline()
            seen["bytes"] += len(line)
            seen["frames"] += line.startswith(b"data: ")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join(5)
        connection.close()


@contextmanager
def page(daemon: Daemon, browser: Browser) -> Iterator[Any]:
    """The page in a browser."""
    opened = browser.new_page()
    opened.goto(f"http://{daemon.api}/")
    opened.wait_for_selector("#cards .card.role-leader")
    try:
        yield opened
    finally:
        opened.close()


def renderer_mb() -> float:
    """Return the private memory of the largest renderer of our browser: what its task manager calls its footprint."""
    sizes = [0.0]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" in (process / "cmdline").read_bytes() and _is_ours(process):
                lines = (process / "smaps_rollup").read_text().splitlines()
                sizes.append(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024)
        except OSError:
            continue
    return max(sizes)


def _is_ours(process: Path) -> bool:
    while process.name not in ("0", "1"):
        if process.name == str(os.getpid()):
            return True
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        process = process.parent / parent
    return False


def stay(daemon: Daemon, folder: Path, shape: str, minutes: float) -> None:
    """Keep the page open under load, and tell its memory every 15 seconds.

    In a browser of its own, that no tool looks into: a renderer under Playwright grows by what its inspector keeps.
    """
    address = f"http://{daemon.api}/"
    command = [need("chromium"), *ARGUMENTS, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0", address]
    arguments = ["--config", str(daemon.configuration), "--shape", shape, "--seconds", str(minutes * 60), "--json"]
    browser = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    load = subprocess.Popen([sys.executable, str(LOAD), *arguments], stdout=subprocess.PIPE, text=True)
    try:
        began = time.monotonic()
        while load.poll() is None:
            time.sleep(15)
            streams = daemon.http("GET", "/metrics").body.decode().partition("\nbarge_http_streams ")[2].partition("\n")[0]
            print(f"{time.monotonic() - began:5.0f} s: {renderer_mb():5.0f} MB, {streams} stream open", flush=True)
        assert load.stdout is not None
        print(f"put rate meanwhile: {json.loads(load.stdout.read().splitlines()[-1])['rate']:,.0f}/s")
    finally:
        load.kill()
        browser.terminate()
        browser.wait(10)


def report(found: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians, and what each way costs beside nobody's looking."""
    names = list(found)
    rate, cpu = (statistics.median(one[number] for one in found[names[0]]) for number in (0, 1))
    for name in names:
        rates, cpus = [one[0] for one in found[name]], [one[1] for one in found[name]]
        text = f"{statistics.median(rates):8,.0f} put/s ({100 * (statistics.median(rates) / rate - 1):+.1f} %)"
        text += f", {statistics.median(cpus):.2f} µs of processor a put ({100 * (statistics.median(cpus) / cpu - 1):+.1f} %)"
        print(f"{name:22} {text}   {', '.join(f'{one:,.0f}/{each:.1f}' for one, each in found[name])}", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--shape", default="100x10")
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as daemon:
        with chromium() as browser:
            compare(daemon, browser, arguments.shape, arguments.seconds, arguments.rounds)
        if arguments.minutes:
            stay(daemon, Path(folder), arguments.shape, arguments.minutes)


def compare(daemon: Daemon, browser: Browser, shape: str, seconds: float, rounds: int) -> None:
    """Measure each way in turns."""
    seen = {"bytes": 0, "frames": 0}
    ways: dict[str, Callable[[], Any]] = {
        "nobody looks": nullcontext,
        "one live stream": lambda: stream(daemon, seen),
        "one page in Chromium": lambda: page(daemon, browser),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with way():
                found[name].append(measure(daemon, shape, seconds))
    if rounds:
        report(found)
        print(f"the stream: {seen['frames']:,} frames, {seen['bytes'] / max(1, seen['frames']):,.0f} bytes each")


if __name__ == "__main__":
    main()
