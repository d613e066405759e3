"""Servers that say on the wire exactly what they are told, byte by byte, and remember what came."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import mkdtemp

import requests
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Script = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wire:
    """Runs `script` with each connection, in a thread of its own; `connections` counts them, `got` keeps requests."""

    def __init__(self, script: Script, *, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.connections = 0
        self.got: list[bytes] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                made, _ = self._listener.accept()
                self.connections += 1
                self._open.append(made)
                threading.Thread(target=self._talk, args=(made,), daemon=True).start()

    def _talk(self, made: socket.socket) -> None:
        with suppress(OSError):
            talk = self._context.wrap_socket(made, server_side=True) if self._context else made
            with talk:
                self.script(talk)

    def close(self) -> None:
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.close()


def read_request(talk: socket.socket) -> bytes:
    """Return one whole request; empty where the other side closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := talk.recv(65_536)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        if not (part := talk.recv(65_536)):
            return b""
        body += part
    return head + b"\r\n\r\n" + body


def saying(*answers: bytes, wait: float = 0.0, hang: bool = False) -> Script:
    """Answer a connection's requests with `answers` in turn, each part after a `|||` 0.1 s later, then close."""

    def script(talk: socket.socket) -> None:
        for answer in answers:
            if not read_request(talk):
                return
            time.sleep(wait)
            for number, part in enumerate(answer.split(b"|||")):
                time.sleep(0.1 if number else 0)
                talk.sendall(part)
        if hang:
            talk.recv(1)

    return script


def reset(talk: socket.socket) -> None:
    """Close so that the other side sees a reset, not an end."""
    talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    talk.close()


@cache
def certificate(name: str = "127.0.0.1") -> tuple[ssl.SSLContext, str]:
    """Return a server's context with a certificate that it signed itself for `name`, and that certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = Path(mkdtemp(prefix="backstop-test-"))
    private, public = folder / "key.pem", folder / "certificate.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, str(public)


def proxy(answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Script:
    """Answer CONNECT with `answer`; where that is 200, carry bytes to and fro."""

    def script(near: socket.socket) -> None:
        head = read_request(near)
        near.sendall(answer)
        if b" 200 " not in answer:
            return
        host, _, port = head.split()[1].decode().partition(":")
        with socket.create_connection((host, int(port))) as far:
            threading.Thread(target=_carry, args=(far, near), daemon=True).start()
            _carry(near, far)

    return script


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def broken(error: BaseException) -> requests.ConnectionError:
    """Return what `requests` raises where a connection ends with an error."""
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", error))
