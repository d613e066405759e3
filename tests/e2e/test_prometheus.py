"""A real Prometheus scrapes a running Backstop: an outage makes the alerts fire there, and they are over after it."""

import shutil

import pytest
import requests

from reliability.models import Breaker, DeadLetter, Delivery
from scheduling.models import CronJob

from ..support.receiver import Reply, until
from ..support.web import Web
from ..support.workers import Workers
from . import prometheus as real

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
RATE = "BackstopSuccessRateLow"
TOKEN = "a-token-of-the-tests"
QUICK = {"N8N_CIRCUIT_BREAKER_RECOVERY_MS": "1000", "N8N_CIRCUIT_BREAKER_THRESHOLD": "3"}


@pytest.fixture
def web(transactional_db, tmp_path):
    # Jobs of Backstop's own that nobody pings would be late.
    CronJob.objects.all().update(enabled=False)
    made = Web(tmp_path, METRICS_TOKEN=TOKEN, CRON_SECRET="a-cron-secret")
    yield made
    if made.process.poll() is None:
        made.end()


@pytest.fixture
def prometheus(tmp_path):
    """Start one that scrapes a server; it ends with the test."""
    if shutil.which("prometheus") is None:
        pytest.skip(real.ABSENT)
    running = []

    def start(web: Web, token: str = TOKEN) -> real.Prometheus:
        directory = tmp_path / f"prometheus-{len(running)}"
        directory.mkdir()
        running.append(real.Prometheus(directory, target=web.url.removeprefix("http://"), token=token))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def test_an_outage_fires_and_its_end_is_seen(web, prometheus, receiver, workflow, accept, accept_many, tmp_path):
    seen = prometheus(web)
    workers = Workers(tmp_path)
    try:
        workers.start(N8N_WEBHOOK_URL=receiver.url, **QUICK)
        until(lambda: seen.query("backstop_workers_alive == 1"), within=60, what="a scrape with a worker in it")
        workflow("charge", max_retries=10, base_delay_ms=200)
        workflow("reject", max_retries=0)
        workflow("well")
        until(lambda: "BackstopNoWorker" not in seen.firing(), within=60, what="quiet")
        receiver.rule = answer
        accept(workflow="well")
        accept(workflow="reject")
        until(lambda: seen.query('backstop_dead_letters_total{workflow="reject"} == 1'), within=60, what="one death")
        assert {*seen.firing()} <= {"BackstopNoWorker"}
        accept(workflow="charge")
        accept_many(30, workflow="reject")
        wanted = {"BackstopBreakerOpen", "BackstopBreakerOpenLong", "BackstopDeadLettersGrowing", RATE}
        until(lambda: wanted <= seen.firing().keys(), within=90, what=f"{wanted}; there are {seen.firing().keys()}")
        check_what_is_said(seen.firing())

        # And then the worker is gone, too.
        for process in workers.running:
            workers.kill(process)
        until(lambda: "BackstopNoWorker" in seen.firing(), within=90, what="the missing worker's alert")

        receiver.always(200)
        workers.start(N8N_WEBHOOK_URL=receiver.url, **QUICK)
        left = Delivery.objects.exclude(state__in=("delivered", "dead"))
        until(lambda: not left.exists(), within=120, what="all of it")
        assert not Breaker.objects.exclude(state="closed").exists()
        over = {"BackstopBreakerOpen", "BackstopBreakerOpenLong", "BackstopNoWorker"}
        until(lambda: not over & seen.firing().keys(), within=90, what=f"an end; there are {seen.firing().keys()}")
        # What has died stays so for as long as the rule looks back.
        assert DeadLetter.objects.filter(status="dead").count() == 31
        assert "BackstopDeadLettersGrowing" in seen.firing()

        web.kill()
        until(lambda: "BackstopDown" in seen.firing(), within=60, what="the alert that Backstop is down")
    finally:
        workers.end_all()


def answer(got) -> Reply:
    if got.path.endswith("/reject"):
        return Reply(400, '{"message": "no such client"}')
    return Reply(500, '{"message": "boom"}') if got.path.endswith("/charge") else Reply()


def check_what_is_said(firing: dict[str, dict]) -> None:
    breaker, deaths = firing["BackstopBreakerOpen"], firing["BackstopDeadLettersGrowing"]
    assert (breaker["labels"]["workflow"], breaker["labels"]["tenant"]) == ("charge", "default")
    assert breaker["annotations"]["runbook_url"] == "docs/runbook.md#breakeropen"
    assert deaths["labels"]["workflow"] == "reject"
    assert "new dead letters of reject within 15 minutes" in deaths["annotations"]["description"]


def test_the_names_of_cron_jobs_stay_theirs(web, prometheus):
    """Without `honor_labels` the job of a ping would be Prometheus' own word for its target."""
    seen = prometheus(web)
    good, bad = {"Authorization": "Bearer a-cron-secret"}, {"Authorization": "Bearer wrong"}
    requests.get(f"{web.url}/cron/recap/", headers=good, timeout=10).raise_for_status()
    until(lambda: seen.query('backstop_cron_pings_total{job="recap", result="ok"}'), within=60, what="a ping")
    for _ in range(2):
        assert requests.get(f"{web.url}/cron/other-job/", headers=bad, timeout=10).status_code == 403
    assert "BackstopLightEndpointFailing" not in seen.firing()
    assert seen.query('up{job="backstop"}')


def test_a_wrong_token_is_told(web, prometheus):
    seen = prometheus(web, token="wrong")
    until(lambda: "401" in seen.last_error(), within=60, what="a refusal")
    until(lambda: "BackstopDown" in seen.firing(), within=60, what="the alert")
