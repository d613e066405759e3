"""A real n8n's Schedule Trigger pings a cron job, by the workflow that docs/cron.md gives to paste."""

import json

import pytest

from reliability.models import Delivery
from scheduling.models import CronJob, Ping, Run

from ..support.receiver import until
from ..support.workers import ROOT
from . import n8n as real

pytestmark = pytest.mark.e2e
PINGED = real.workflow("pinged", real.code("return $input.all();"))


def pasted(address: str) -> dict:
    """Return the documented workflow, every five seconds and with the secret in its address."""
    text = (ROOT / "docs" / "cron.md").read_text()
    found = json.loads(text[text.index('{"nodes"') : text.index("If n8n is down at nine")])
    trigger, ping = found["nodes"]
    trigger["parameters"]["rule"]["interval"][0]["expression"] = "*/5 * * * * *"
    ping["parameters"] = {"method": "POST", "url": address}
    extra = {"id": "e2ecron", "name": "cron", "settings": {"executionOrder": "v1"}, "active": False}
    for number, node in enumerate(found["nodes"]):
        node["id"] = f"00000000-0000-4000-8000-{number:012d}"
    return {**found, **extra}


def test_a_schedule_trigger_runs_a_job_once_for_each_slot(n8n, worker, workflow, live_server, settings):
    settings.CRON_SECRET = "a-cron-secret"
    job = CronJob.objects.create(slug="recap", name="recap", schedule="*/15 * * * * *", payload={"week": 7})
    job.workflows.add(workflow("pinged", timeout_ms=20_000))
    pinger = pasted(f"{live_server.url}/cron/recap/?secret=a-cron-secret")
    n8n.kill()
    n8n.load(PINGED)
    n8n.load(pinger)
    n8n.start()
    try:
        until(lambda: Delivery.objects.filter(state="delivered").count() >= 3, within=120, what="three runs delivered")
    finally:
        n8n.unpublish(pinger)
    runs, pings = Run.objects.filter(job=job), Ping.objects.filter(job=job)
    assert pings.filter(result="repeat").count() >= 2
    assert pings.count() > runs.count() == len({run.slot for run in runs})
    document = Delivery.objects.order_by("id").first().document
    assert (document["job"], document["data"]) == ("recap", {"week": 7})
