"""`bargetrio replay EVENTS_FILE...`: the live page over a recorded run, with its slider and its slow motion.

The page is one file, made once: written with --html, or served to the browsers of this machine.
"""

import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import click

from bargetrio import console
from bargetrio.cli import signals
from bargetrio.cli.shared import UserPath
from bargetrio.files import replacing
from bargetrio.protocol.limits import MOST_PORT

READ_TIMEOUT_S: Final = 10.0


@click.command()
@click.argument("events_files", nargs=-1, required=True, type=UserPath(exists=True, dir_okay=False))
@click.option("--html", "html_file", type=UserPath(dir_okay=False), help="Write the page as one file, instead of serving it.")
@click.option("--until", "until_id", metavar="ID", help="End with this event: of a long run the page holds the 20,000 before it.")
@click.option("--election-ms", type=click.IntRange(1), help="The run's longest election time-out: draws the nodes' timers.")
@click.option(
    "--port", type=click.IntRange(0, MOST_PORT), default=0, help="Serve on this port of 127.0.0.1; default: a free one."
)
def replay(
    events_files: tuple[str, ...], html_file: str | None, until_id: str | None, election_ms: int | None, port: int
) -> None:
    """Show recorded runs as the live page: EVENTS_FILES as `serve --events` writes them, one per daemon, merged by time."""
    from bargetrio.eventlog.render import check_page, log_html
    from bargetrio.eventlog.replay import view_of

    signals.begin(signal.SIGINT)
    if html_file is not None:
        if port:
            raise click.UsageError("--html and --port are not given together")
        try:
            check_page(Path(html_file))
        except OSError as problem:
            console.complain(f"{html_file}: {problem.strerror}")
            sys.exit(1)
    try:
        view = view_of([Path(name) for name in events_files], until_id, election_ms)
    except (ValueError, OSError) as problem:
        console.complain(str(problem))
        sys.exit(2)
    document, policy = log_html(view)
    left_out = f" ({view.dropped:,} older or never recorded ones left out; --until ID goes back)" if view.dropped else ""
    console.say(f"{len(view.events):,} events of {len(view.columns)} nodes{left_out}")
    if html_file is not None:
        try:
            with replacing(Path(html_file)) as file:
                file.write(document.encode())
        except OSError as problem:
            console.complain(f"{html_file} can't be written: {problem.strerror}")
            sys.exit(1)
        console.say(f"written to {html_file}")
        return
    try:
        server = page_server(document, policy, port)
    except OSError as problem:
        console.complain(f"can't listen on 127.0.0.1:{port}: {problem.strerror}")
        sys.exit(1)
    console.say(f"  page    http://127.0.0.1:{server.server_address[1]}/\n  Ctrl-C stops it")
    with server:
        server.serve_forever()


def page_server(document: str, policy: str, port: int) -> ThreadingHTTPServer:
    """Return a server of this one page, on loopback only; a foreign Host (DNS rebinding) is refused."""
    body = document.encode()

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_TIMEOUT_S

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in ("127.0.0.1", "localhost"):
                self.send_error(403)
            elif self.path != "/":
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", policy + "; frame-ancestors 'none'")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing to the terminal."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
