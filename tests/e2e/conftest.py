import pytest

from ..support.receiver import Receiver
from ..support.workers import Workers
from . import n8n as real

ECHO = real.workflow("arrives", real.code("return $input.all();"))
SLOW = real.workflow("slow", real.code("await new Promise(r => setTimeout(r, 250)); return [{json: {done: true}}];"))
DRAFT = real.workflow("draft", real.code("return $input.all();"))


@pytest.fixture(scope="session")
def vendor():
    """What a workflow calls: a server that the tests make fail."""
    made = Receiver().start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def n8n(tmp_path_factory, django_db_setup, vendor):
    """A real n8n with the tests' workflows; `draft` is not published."""
    from django.db import connection

    real.install()
    made = real.N8n(directory=tmp_path_factory.mktemp("n8n"), settings=dict(connection.settings_dict))
    made.prepare()
    charge = real.workflow("charge", real.call(f"http://127.0.0.1:{vendor.port}/charge"))
    for one in (ECHO, SLOW, charge):
        made.load(one)
    made.load(DRAFT, publish=False)
    made.start()
    made.own()
    yield made
    made.kill()


@pytest.fixture
def worker(transactional_db, n8n, tmp_path):
    """A real worker in front of the real n8n, whose breakers open and recover fast enough to watch."""
    made = Workers(tmp_path)
    made.start(
        N8N_WEBHOOK_URL=n8n.url,
        N8N_CIRCUIT_BREAKER_THRESHOLD="3",
        N8N_CIRCUIT_BREAKER_RECOVERY_MS="2000",
        N8N_BASE_DELAY_MS="200",
        N8N_MAX_DELAY_MS="1000",
    )
    yield made
    made.end_all()
