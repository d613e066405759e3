"""Names are resolved within a time limit; a resolver that hangs occupies a few threads and holds up no other name."""

import socket
import threading
import time

import pytest

from config import resolver

# Far more than any limit here.
LONG = 20


class Resolver:
    """Stands in for the C library's: names of `example` are held until `answer`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()
        self.real = socket.getaddrinfo

    def __call__(self, host, port, *arguments, flags=0, **options):
        if host.endswith(".example") and not flags:
            self.asked.append(host)
            self.answer.wait(LONG)
            host = "127.0.0.1"
        return self.real(host, port, *arguments, flags=flags, **options)


@pytest.fixture
def held(monkeypatch):
    made = Resolver()
    monkeypatch.setattr(resolver.socket, "getaddrinfo", made)
    yield made
    made.answer.set()


def addresses(host: str, within: float) -> list[object]:
    return [address[0] for *_, address in resolver.resolve(host, 80, within=within)]


def test_an_address_is_taken_as_it_is(held):
    assert addresses("192.0.2.1", 0.0) == ["192.0.2.1"]
    assert addresses("::1", 0.0) == ["::1"]
    assert held.asked == []


def test_a_name_is_not_waited_for_longer_than_allowed(held):
    began = time.monotonic()
    with pytest.raises(resolver.NameTimeout):
        addresses("a.example", 0.1)
    assert time.monotonic() - began < LONG / 2


def test_a_name_that_hangs_has_few_threads_and_holds_up_no_other(held, monkeypatch):
    monkeypatch.setattr(resolver, "STUCK", 0.05)
    for _ in range(resolver.STUCK_LIMIT + 3):
        with pytest.raises(resolver.NameTimeout):
            addresses("b.example", 0.1)
    assert held.asked == ["b.example"] * resolver.STUCK_LIMIT
    assert "127.0.0.1" in addresses("localhost", LONG)


def test_those_who_ask_at_once_ask_once(held):
    found: list[list[object]] = []
    threads = [threading.Thread(target=lambda: found.append(addresses("c.example", LONG))) for _ in range(5)]
    for one in threads:
        one.start()
    time.sleep(0.3)  # time for all of them to ask
    held.answer.set()
    for one in threads:
        one.join()
    assert found == 5 * [["127.0.0.1"]]
    assert held.asked == ["c.example"]


def test_what_was_asked_is_asked_anew_later(held):
    held.answer.set()
    for _ in range(2):
        assert addresses("d.example", LONG) == ["127.0.0.1"]
    assert held.asked == ["d.example"] * 2


@pytest.mark.parametrize("name", ["nothing.invalid", f"{70 * 'a'}.invalid"])
def test_a_name_that_cannot_be_resolved_is_an_error(name):
    with pytest.raises((socket.gaierror, UnicodeError)):
        addresses(name, LONG)
