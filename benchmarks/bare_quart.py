"""The least that Quart can do, served as Barge's REST is: reads a body and answers JSON as long as a put's answer.

python benchmarks/bare_quart.py --port 9000
"""

import argparse
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from bargetrio.web.server import WebServer, bind

ANSWER = b'{"key":"key000007919","index":1000000,"term":3}'


def make_app() -> Any:
    """Return the application."""
    app = QuartTrio("bare")

    @app.put("/keys/<key>")
    async def put_key(key: str) -> Response:
        await request.get_data()
        return Response(ANSWER, 200, content_type="application/json")

    return app


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, required=True)
    trio.run(WebServer(make_app(), bind("127.0.0.1", parser.parse_args().port)).run)


if __name__ == "__main__":
    main()
