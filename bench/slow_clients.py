"""The run of clients that do harm: does anybody else notice, and does each of them end by its limit?"""

import http.client
import json
import subprocess
import sys
import threading
import time
from typing import Any

from . import ground, runs

SECONDS = 60.0
# How much later than its limit a connection may end: the server looks at its timers when it comes to it.
SLACK = 5.0
Figures = dict[str, Any]


def slow_clients() -> Figures:
    """500 unfinished bodies of three kinds, 1,000 idle connections and 200 half-sent headers, all held for a minute;
    then the same with 200 bodies one byte short of the largest. Milliseconds, and MB above what is allowed."""
    from django.conf import settings

    plain = runs._key()
    runs.workflow("paused", paused=True)
    longest = max(settings.WEB_BODY_IDLE_SECONDS, settings.WEB_HEADER_SECONDS, settings.WEB_BODY_SECONDS) + SLACK
    found: Figures = {"unit": "ms", "memory_over": -1e9, "left": 0, "rounds": {}}
    for name, nearly in (("small", 0), ("nearly", settings.MAX_BODY_BYTES)):
        with ground.web(WEB_THREADS="4") as web:
            one = _round(web.pid, plain, nearly=nearly, longest=longest)
        found["rounds"][name] = one
        for kind in ("healthz", "light", "post"):
            found[kind] = max(found.get(kind, 0.0), one["p99"][kind])
        over = one["peak"] - one["usual"] - settings.WEB_BUFFERED_BYTES / 2**20  # as `ground.largest` has it
        found["memory_over"] = max(found["memory_over"], over)
        found["left"] += sum(one["left"].values())
    runs._empty()
    return found


def _round(pid: int, plain: str, *, nearly: int, longest: float) -> Figures:
    honest = _Honest(plain)
    honest.warm_up()
    usual = ground.largest(pid)
    given = json.dumps({"seconds": SECONDS, "nearly": nearly, "longest": longest})
    command = [sys.executable, "-m", "bench.bad_clients"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ground.ROOT) as attack,
        honest,
    ):
        assert attack.stdin is not None
        attack.stdin.write(given)
        attack.stdin.close()
        peak, end = usual, time.monotonic() + SECONDS
        while time.monotonic() < end:
            peak = max(peak, ground.largest(pid))
            time.sleep(0.05)
        honest.end()
        assert attack.stdout is not None
        told = json.loads(attack.stdout.read())
    return {"usual": usual, "peak": peak, "p99": honest.p99(), "counts": honest.counts(), **told}


class _Honest:
    """Clients that ask for health, the light endpoint, and to accept a delivery; on a new connection each time."""

    def __init__(self, plain: str) -> None:
        body = json.dumps({"workflow": "paused", "payload": {"order": 4711}})
        secret = {"Authorization": f"Bearer {ground.CRON_SECRET}"}
        self._asks: dict[str, tuple[str, str, str | None, dict[str, str], int]] = {
            "healthz": ("GET", "/healthz", None, {}, 200),
            "light": ("GET", "/cron/weekly-recap/", None, secret, 200),
            "post": ("POST", "/api/v1/deliveries/", body, {"Authorization": f"Bearer {plain}"}, 201),
        }
        self._times: dict[str, list[float]] = {name: [] for name in self._asks}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[name]) for name in self._asks]

    def __enter__(self) -> "_Honest":
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def warm_up(self) -> None:
        for _ in range(200):
            for name in self._asks:
                self._ask(name)

    def end(self) -> None:
        self._over.set()
        for one in self._threads:
            one.join()

    def p99(self) -> dict[str, float]:
        return {name: 1000 * sorted(times)[int(len(times) * 0.99)] for name, times in self._times.items()}

    def counts(self) -> dict[str, int]:
        return {name: len(times) for name, times in self._times.items()}

    def _run(self, name: str) -> None:
        while not self._over.is_set():
            took = self._ask(name)
            self._times[name].append(took)
            time.sleep(0.02)

    def _ask(self, name: str) -> float:
        """Return the seconds until an answer came; one that is not as it should be counts as ten."""
        method, path, body, headers, status = self._asks[name]
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", ground.PORT, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return time.perf_counter() - began if answer.status == status else 10.0
        except OSError:
            return 10.0
        finally:
            connection.close()
