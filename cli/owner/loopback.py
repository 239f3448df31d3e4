"""The owner's page on this machine's loopback. Owns the socket: 127.0.0.1 only, one request at a time, no log."""

from __future__ import annotations

import http.server
from typing import Final

from cli.owner.site import BODY_BYTES_MAX, Request, Response, Site

HOST: Final = "127.0.0.1"


class Loopback:
    """A listening socket of this machine. Use as ``with Loopback(port) as loopback``."""

    def __init__(self, port: int = 0) -> None:
        """Listen; port 0 is a free one."""
        self._server = _Server((HOST, port), _Handler)

    @property
    def origin(self) -> str:
        """What a browser must name it."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def serve(self, site: Site) -> None:
        """Answer until interrupted, or until ``stop`` from another thread."""
        self._server.site = site
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """End ``serve``."""
        self._server.shutdown()

    def close(self) -> None:
        """Give the port back."""
        self._server.server_close()


class _Server(http.server.HTTPServer):
    site: Site


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = 10
    server_version, sys_version = "Reticent", ""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self._send(Response(413))
            return
        self._answer(self.rfile.read(int(length)))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing is logged: the link's key would be."""

    def _answer(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.server.site.answer(Request(self.command, self.path, headers, body)))

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)
