import pytest

from ..support.receiver import Receiver
from ..support.workers import Workers
from . import n8n as real
from . import reporting
from .backstop import KEY, Front
from .browser import chromium, console  # noqa: F401  # fixtures

ECHO = real.workflow("arrives", real.code("return $input.all();"))
SLOW = real.workflow("slow", real.code("await new Promise(r => setTimeout(r, 250)); return [{json: {done: true}}];"))
DRAFT = real.workflow("draft", real.code("return $input.all();"))


SIGNING_SECRET = "whsec_a_secret_of_the_tests"
CREDENTIALS = (
    {
        "id": "backstopapikey00",
        "name": "Backstop API key",
        "type": "httpHeaderAuth",
        "data": {"name": "Authorization", "value": f"Bearer {KEY}"},
    },
    {
        "id": "stripesigning000",
        "name": "Stripe signing secret",
        "type": "crypto",
        "data": {"hmacSecret": SIGNING_SECRET},
    },
)


def own_workflows(services: int, front: int) -> list[dict]:
    """The project's workflows, set to servers on these ports."""
    url, backstop = f"http://127.0.0.1:{services}", {"backstop_url": f"http://127.0.0.1:{front}"}
    return [
        real.shipped("error-handler", **backstop),
        real.shipped("notify-gap-fill", clients_url=f"{url}/clients", notify_url=f"{url}/messages", **backstop),
        real.shipped("weekly-recap", figures_url=f"{url}/figures", recap_url=f"{url}/recaps"),
        real.shipped("client-onboarding", onboarding_url=f"{url}/onboarding", **backstop),
        real.shipped("stripe-guarded", work_url=f"{url}/work", **backstop),
    ]


@pytest.fixture(scope="session")
def vendor():
    """What a workflow calls: a server that the tests make fail."""
    made = Receiver().start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def services():
    """What the workflows of `n8n/workflows/` call, apart from Backstop."""
    made = Receiver().start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def front(live_server):
    """A real Backstop, through which every call of a workflow is seen."""
    made = Front(live_server.url).start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def n8n(tmp_path_factory, django_db_setup, vendor, services, front, live_server):
    """A real n8n with the tests' workflows and the project's own; `draft` is not published."""
    from django.db import connection

    real.install()
    made = real.N8n(directory=tmp_path_factory.mktemp("n8n"), settings=dict(connection.settings_dict))
    made.prepare()
    charge = real.workflow("charge", real.call(f"http://127.0.0.1:{vendor.port}/charge"))
    for one in (ECHO, SLOW, charge):
        made.load(one)
    made.load(DRAFT, publish=False)
    made.keep(*CREDENTIALS)
    own = own_workflows(services.port, front.port)
    for one in (*own, *reporting.workflows(live_server.url, vendor.port)):
        made.load(one)
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
