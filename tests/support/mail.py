"""A real mail server, which takes, refuses or hangs as it is told."""

import socket
import socketserver
import threading
import time


class MailServer:
    """Keeps each message as its text; `refusing` answers 451 to the sender, `hanging` answers nothing at all."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.recipients: list[str] = []
        self.refusing = self.hanging = False
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                server._talk(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _talk(self, connection: socketserver.StreamRequestHandler) -> None:
        while self.hanging:
            time.sleep(0.05)
        say = connection.wfile.write
        try:
            say(b"220 here\r\n")
            while line := connection.rfile.readline():
                say(self._answer(line.decode().strip(), connection))
        except OSError:
            pass

    def _answer(self, line: str, connection: socketserver.StreamRequestHandler) -> bytes:
        word = line.partition(" ")[0].upper()
        if word == "MAIL" and self.refusing:
            return b"451 not now\r\n"
        if word == "RCPT":
            self.recipients.append(line.partition("<")[2].partition(">")[0])
        if word != "DATA":
            return b"221 bye\r\n" if word == "QUIT" else b"250 ok\r\n"
        connection.wfile.write(b"354 go on\r\n")
        lines = []
        while (part := connection.rfile.readline()) not in (b".\r\n", b""):
            lines.append(part.decode())
        self.messages.append("".join(lines).replace("\r\n", "\n"))
        return b"250 taken\r\n"


def closed_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
