"""A stand-in for n8n, for the first hour: `python3 docs/stand_in.py 5678`.

It answers every POST with 200, or with 500 while a file named `broken` exists in the current folder. It prints one line
for each request: idempotency key, attempt, status, body.
"""

import pathlib
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status = 500 if pathlib.Path("broken").exists() else 200
        print(self.headers["Idempotency-Key"], self.headers["X-Backstop-Attempt"], status, body, flush=True)  # noqa: T201
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing but the lines above."""


HTTPServer(("127.0.0.1", int(sys.argv[1])), StandIn).serve_forever()
