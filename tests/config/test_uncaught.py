"""What nobody caught is written without values, by a real process."""

import subprocess
import sys

import pytest

from ..support.workers import ROOT, environment

BEGIN = """
import asyncio, gc, os, sys, threading, django
os.environ["STRIPE_LOG"] = "debug"
django.setup()
class Bad(Exception): pass
MARKER = "".join(["m4r", "k3r"])
def fail(*_): raise Bad(MARKER)
"""
WAYS = {
    "a command": "fail()",
    "a cause": "try:\n    fail()\nexcept Bad:\n    raise ValueError(MARKER)",
    "a thread": "made = threading.Thread(target=fail, name='worker-7')\nmade.start()\nmade.join()",
    "a destructor": "class Dies:\n    __del__ = fail\n    __repr__ = lambda self: MARKER\nDies()\ngc.collect()",
    "a task": """
async def main():
    async def one(): fail()
    made = asyncio.ensure_future(one())
    await asyncio.sleep(0)
    del made
    gc.collect()
asyncio.run(main())""",
    "a callback": """
async def main():
    asyncio.get_running_loop().call_soon(fail, MARKER)
    await asyncio.sleep(0)
asyncio.run(main(), debug=True)""",
    "an unknown value in a statement": """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT %s::int", [MARKER])""",
}


def run(code: str, **changes: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        env=environment(**changes),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", WAYS)
def test_what_nobody_caught_is_written_without_values(way):
    written, _ = run(WAYS[way])
    assert "m4rk3r" not in written
    assert "Traceback (most recent call last)" in written
    assert ("Bad (its message may quote data" in written) != ("SQLSTATE 22P02" in written)


def test_a_connection_that_fails_says_why():
    written, code = run(
        "from django.db import connection\nconnection.cursor()", DATABASE_URL="postgresql://a:s3cr3t@127.0.0.1:1/x"
    )
    assert code == 1
    assert "port 1 failed: Connection refused" in written
    assert "s3cr3t" not in written


def test_what_stripe_s_library_says_is_not_printed():
    code = "import stripe\nfrom stripe._util import log_debug\nlog_debug('API response body', body='rk3r')"
    written, done = run(code)
    assert (done, "rk3r" in written) == (0, False)
