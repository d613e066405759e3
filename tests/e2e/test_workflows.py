"""The workflows of `n8n/workflows/` in a real n8n, with a real Backstop."""

import hashlib
import hmac
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import requests

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import replay
from reliability.models import DeadLetter

from ..support.receiver import Got, Reply, until
from . import n8n as real
from .backstop import KEY, issue_key
from .conftest import SIGNING_SECRET

pytestmark = pytest.mark.e2e
FAILED = "/api/v1/executions/failed/"
FIGURES = "/api/v1/executions/"
LETTERS = "/api/v1/dead-letters/"
CLAIM = "/api/v1/stripe-events/claim/"


@pytest.fixture(autouse=True)
def fresh(transactional_db, n8n, services, front, workflow):
    """Services that answer well and have seen nothing; Backstop with n8n's key and the workflows."""
    issue_key()
    for slug in ("notify-gap-fill", "weekly-recap", "client-onboarding", "stripe-guarded"):
        workflow(slug, timeout_ms=60_000, max_retries=0)
    for seen in (services.got, front.got, front.answered, front.failing):
        seen.clear()
    services.always()
    front.let_in()
    yield
    front.shut()


@pytest.fixture
def call(n8n):
    """POST to a workflow as Backstop would."""

    def post(slug: str, body=None, *, key: str = "run-1", tenant: str = "default", delivery=None) -> requests.Response:
        delivery = delivery or uuid.uuid5(uuid.NAMESPACE_URL, key)
        headers = {"Idempotency-Key": key, "X-Backstop-Delivery": str(delivery), "X-Backstop-Tenant": tenant}
        return requests.post(f"{n8n.url}/{slug}", json=body or {}, headers=headers, timeout=90)

    return post


def by_path(answers: dict[str, object]):
    """A rule: what each path answers; a function of the request, a Reply, or a JSON document."""

    def rule(got: Got) -> Reply:
        answer = answers.get(got.path.partition("?")[0], {})
        answer = answer(got) if callable(answer) else answer
        return answer if isinstance(answer, Reply) else Reply(200, json.dumps(answer), JSON)

    return rule


JSON = {"Content-Type": "application/json"}
DOWN = Reply(500, '{"error": "down"}', JSON)


def sent(server, path: str) -> list[tuple[str, object]]:
    return [(one.key, one.json) for one in server.got if one.path == path]


def failures(front, workflow_id: str) -> list[dict]:
    """What the error handler reported of a workflow. A report comes after the call's answer: others may be about."""
    return [one.json for one in front.calls(FAILED) if one.json["workflow"]["id"] == workflow_id]


class TestErrorHandler:
    def test_hands_the_failure_on_as_it_is_and_tries_again_where_backstop_is_away(self, front, services, call):
        services.always(500)
        front.failing[FAILED] = 1
        assert call("weekly-recap").status_code == 500
        until(lambda: len(failures(front, "bsWeeklyRecap001")) == 2, within=30)
        until(lambda: (FAILED, 201) in front.answered)
        first, second = failures(front, "bsWeeklyRecap001")
        assert first == second
        assert front.calls(FAILED)[-1].headers["authorization"] == f"Bearer {KEY}"
        assert second.keys() == {"execution", "workflow"}
        assert second["workflow"] == {"id": "bsWeeklyRecap001", "name": "Weekly Recap"}
        execution = second["execution"]
        assert (execution["lastNodeExecuted"], execution["mode"]) == ("Figures", "webhook")
        assert execution["error"]["httpCode"] == "500"
        assert execution["url"].endswith(f"/executions/{execution['id']}")

    def test_hands_on_a_trigger_that_cannot_start_and_why(self, n8n, front):
        broken = real.never_starts("never-starts")
        n8n.load(broken)
        n8n.kill()
        n8n.start()
        try:
            found = until(lambda: failures(front, broken["id"]), within=60)[0]
        finally:
            n8n.unpublish(broken)
        assert found.keys() == {"trigger", "workflow"}
        assert found["trigger"]["error"]["name"] == "WorkflowActivationError"
        assert "Invalid cron expression" in found["trigger"]["error"]["message"]


def contact(client: str, **ago: float) -> dict:
    return {"id": client, "last_contact_at": (datetime.now(UTC) - timedelta(**ago)).isoformat()}


def key_of(one: dict, period: int) -> str:
    return f"notify-gap-fill:{one['id']}:{one['last_contact_at'][:10]}:{period}"


class TestNotifyGapFill:
    def test_notifies_each_gap_once_and_reports_what_failed(self, services, front, call):
        ten, nearly = contact("a-ten", days=10), contact("a-nearly", days=9, hours=23)
        long, unlucky = contact("a-long", days=25), contact("a-unlucky", days=12)
        listed = [ten, nearly, long, unlucky, {"id": "a-broken"}]
        answers = {"/clients": listed, "/messages": lambda got: DOWN if got.json["client_id"] == "a-unlucky" else {}}
        services.rule = by_path(answers)
        counts = {"skipped": False, "due": 3, "unreadable": 1, "sent": 2, "failed": 1}
        assert call("notify-gap-fill").json() == counts
        assert dict(sent(services, "/messages")) == {
            key_of(ten, 1): {"client_id": "a-ten", "last_contact_at": ten["last_contact_at"], "gap_days": 10},
            key_of(long, 2): {"client_id": "a-long", "last_contact_at": long["last_contact_at"], "gap_days": 20},
            key_of(unlucky, 1): {
                "client_id": "a-unlucky",
                "last_contact_at": unlucky["last_contact_at"],
                "gap_days": 10,
            },
        }
        assert [one.key for one in services.got if one.method == "GET"] == ["run-1"]
        letter = DeadLetter.objects.get()
        assert (letter.error_code, letter.source, letter.lane.tenant) == ("http_500", "api", "default")
        assert [one["key"] for one in letter.document["notifications"]] == [key_of(unlucky, 1)]

        services.got.clear()
        again = {"skipped": True, "due": 3, "unreadable": 1, "sent": 0, "failed": 0}
        assert call("notify-gap-fill", key="run-2").json() == again
        assert not sent(services, "/messages")
        listed.append(contact("a-new", days=11))
        assert call("notify-gap-fill", key="run-3").json() == counts | {"due": 4, "sent": 1, "failed": 0}
        assert [body["client_id"] for _, body in sent(services, "/messages")] == ["a-new"]
        assert DeadLetter.objects.count() == 1

    def test_a_replay_sends_the_one_that_failed_under_its_key(self, services, front, call, worker):
        client = contact("b-unlucky", days=10)
        services.rule = by_path(
            {
                "/clients": [client, contact("b-lucky", days=10)],
                "/messages": lambda got: DOWN if got.json["client_id"] == "b-unlucky" else {},
            }
        )
        assert call("notify-gap-fill").json()["failed"] == 1
        letter = DeadLetter.objects.get()
        services.got.clear()
        replay.replay(dead_letter_id=letter.pk, actor=Actor("test", "too early"), now=clock.now())
        until(lambda: sent(services, "/messages"), within=30)
        until(lambda: DeadLetter.objects.get(pk=letter.pk).status == "dead", within=30)
        services.always()
        replay.replay(dead_letter_id=letter.pk, actor=Actor("test", "it is back"), now=clock.now())
        until(lambda: DeadLetter.objects.get(pk=letter.pk).status == "recovered", within=30)
        assert [key for key, _ in sent(services, "/messages")] == [key_of(client, 1)] * 2
        assert not [one for one in services.got if one.method == "GET"]

    def test_forgets_nothing_where_the_report_fails(self, services, front, call):
        listed = [contact("c-unlucky", days=10), contact("c-lucky", days=10)]
        rule = by_path({"/clients": listed, "/messages": lambda got: DOWN if "unlucky" in got.key else {}})
        services.rule = rule
        front.failing[LETTERS] = 3
        assert call("notify-gap-fill").status_code == 500
        assert call("notify-gap-fill").json() == {"skipped": False, "due": 2, "unreadable": 0, "sent": 0, "failed": 1}
        assert sorted(one["client_id"] for _, one in sent(services, "/messages")) == [
            "c-lucky",
            "c-unlucky",
            "c-unlucky",
        ]
        assert DeadLetter.objects.filter(source="api").count() == 1  # the failed execution itself is n8n's own

    def test_does_not_go_on_without_its_list(self, services, call):
        services.rule = by_path({"/clients": {"not": "a list"}})
        assert call("notify-gap-fill").status_code == 500
        assert not sent(services, "/messages")


class TestWeeklyRecap:
    def test_sends_the_figures_of_the_last_full_week(self, services, call):
        figures = [{"name": "New clients", "value": 12, "previous": 9}, {"name": "Open", "value": 3}]
        services.rule = by_path({"/figures": figures, "/recaps": Reply(202)})
        run = {"job": "weekly-recap", "slot": "2026-03-02T06:00:00Z", "triggered_at": "2026-03-09T06:00:02Z"}
        answer = call("weekly-recap", run, key="weekly-2026-10")
        assert answer.json() == {"from": "2026-02-23", "to": "2026-03-01", "figures": 2, "status_code": 202}
        asked, told = services.got
        assert (asked.method, asked.path) == ("GET", "/figures?from=2026-02-23&to=2026-03-01")
        assert {asked.key, told.key} == {"weekly-2026-10"}
        assert told.json["subject"] == "Weekly recap, 2026-02-23 to 2026-03-01"
        assert told.json["lines"] == ["New clients: 12 (+3 from the week before)", "Open: 3"]

    @pytest.mark.parametrize("broken", ["/figures", "/recaps"])
    def test_says_so_where_it_could_not(self, services, call, broken):
        services.rule = by_path({"/figures": [], broken: DOWN})
        assert call("weekly-recap").status_code == 500


class TestClientOnboarding:
    client = {"id": "c-1", "name": "Ada", "email": "ada@example.com"}

    def test_takes_its_steps_in_order_and_reports_its_figures(self, services, front, call, accept):
        delivery = accept({"client": self.client}, workflow="client-onboarding", tenant="acme").pk
        services.rule = by_path({"/onboarding/accounts": {"number": 7}})
        answer = call("client-onboarding", {"client": self.client}, key="order-1", tenant="acme", delivery=delivery)
        assert answer.json() == {"client_id": "c-1", "steps": ["account", "workspace", "welcome"]}
        assert [(one.path, *pair) for one, pair in zip(services.got, _pairs(services), strict=True)] == [
            ("/onboarding/accounts", "order-1:account", {"client": self.client}),
            ("/onboarding/workspaces", "order-1:workspace", {"client_id": "c-1", "account": {"number": 7}}),
            (
                "/onboarding/messages",
                "order-1:welcome",
                {"to": "ada@example.com", "name": "Ada", "template": "welcome"},
            ),
        ]
        until(lambda: (FIGURES, 201) in front.answered)
        report = front.calls(FIGURES)[0].json
        assert report.pop("execution_id").isdigit()
        assert 0 < report.pop("duration_ms") < 60_000
        assert report == {
            "workflow": "client-onboarding", "tenant": "acme", "status": "success", "delivery": str(delivery),
        }  # fmt: skip

    def test_a_step_that_fails_is_taken_again_under_the_same_key(self, services, front, call):
        services.rule = by_path({"/onboarding/workspaces": DOWN})
        assert call("client-onboarding", {"client": self.client}, key="order-2").status_code == 500
        services.always()
        assert call("client-onboarding", {"client": self.client}, key="order-2").status_code == 200
        done = ["order-2:account", "order-2:workspace"]
        assert [one.key for one in services.got] == [*done, *done, "order-2:welcome"]
        until(lambda: failures(front, "bsClientOnboard1"))

    def test_n8n_goes_on_from_the_step_that_failed(self, n8n, services, front, call):
        services.rule = by_path({"/onboarding/workspaces": DOWN})
        assert call("client-onboarding", {"client": self.client}, key="order-3").status_code == 500
        (report,) = until(lambda: failures(front, "bsClientOnboard1"))
        services.always()
        services.got.clear()
        url = f"{n8n.base}/api/v1/executions/{report['execution']['id']}/retry"
        key = {"X-N8N-API-KEY": n8n.api_key("execution:retry")}
        retried = requests.post(url, json={"loadWorkflow": True}, headers=key, timeout=60).json()
        assert (retried["status"], retried["retryOf"]) == ("success", report["execution"]["id"])
        assert [one.key for one in services.got] == ["order-3:workspace", "order-3:welcome"]
        until(lambda: front.calls(FIGURES))

    @pytest.mark.parametrize(
        ("client", "named"),
        [
            ({"id": "c-1", "name": "Ada"}, "email"),
            ({"id": "c-1", "name": " ", "email": "nobody"}, "name, email"),
            (None, "id, name, email"),
        ],
    )
    def test_refuses_a_client_that_makes_no_sense(self, services, front, call, client, named):
        answer = call("client-onboarding", {"client": client})
        said = f"Missing or invalid fields of the client: {named}."
        assert (answer.status_code, answer.json()) == (422, {"error": said})
        assert not services.got
        (report,) = until(lambda: failures(front, "bsClientOnboard1"))
        assert said in report["execution"]["error"]["message"]


def _pairs(server) -> list[tuple[str, object]]:
    return [(one.key, one.json) for one in server.got]


class TestStripeGuarded:
    @pytest.fixture
    def event(self, n8n):
        """Send an event as Stripe would."""

        def post(name: str, *, secret: str = SIGNING_SECRET, age: float = 0, **headers) -> requests.Response:
            # Spaced as no serialiser would: only the raw bytes give the signature.
            body = f'{{"id":  "{name}", "object": "event",\n "livemode": false, "text": "ü €"}}'.encode()
            at = int(time.time() - age)
            signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
            signed = {"Stripe-Signature": f"t={at},v1=00ff,v1={signature},v0=aa", "Content-Type": "application/json"}
            return requests.post(f"{n8n.url}/stripe-guarded", data=body, headers=signed | headers, timeout=60)

        return post

    def test_an_event_has_its_effect_once(self, services, front, event):
        first = event("evt_once")
        assert (first.status_code, first.json()) == (200, {"received": True, "duplicate": False})
        (work,) = services.got
        assert (work.key, work.headers["x-fencing-token"]) == ("evt_once", "1")
        assert work.json == {"id": "evt_once", "object": "event", "livemode": False, "text": "ü €"}
        (claim,) = front.calls(CLAIM)
        assert claim.json == {
            "event_id": "evt_once", "workflow": "stripe-guarded", "livemode": False, "lease_seconds": 300,
        }  # fmt: skip
        again = event("evt_once")
        assert (again.status_code, again.json()) == (200, {"received": True, "duplicate": True})
        assert len(services.got) == 1

    def test_while_another_holds_it_stripe_is_told_to_come_again(self, services, front, event):
        held = {"event_id": "evt_held", "workflow": "stripe-guarded", "livemode": False}
        assert front.post(CLAIM, held).status_code == 201
        refused = event("evt_held")
        assert refused.status_code == 409
        assert int(refused.headers["Retry-After"]) > 0
        assert not services.got

    def test_of_two_at_once_one_works(self, services, event):
        services.always(wait=1)
        with ThreadPoolExecutor() as both:
            codes = both.map(lambda _: event("evt_twice").status_code, range(2))
        assert sorted(codes) == [200, 409]
        assert len(services.got) == 1

    def test_whoever_lost_the_claim_does_not_complete_it(self, services, front, event):
        claim = {"event_id": "evt_slow", "workflow": "stripe-guarded", "livemode": False}

        def taken_over(got: Got) -> Reply:
            assert front.post("/api/v1/stripe-events/evt_slow/fail/", {"fencing_token": 1}).status_code == 200
            assert front.post(CLAIM, claim).json()["fencing_token"] == 2
            return Reply()

        services.rule = taken_over
        assert event("evt_slow").status_code == 409
        assert event("evt_slow").status_code == 409
        assert len(services.got) == 1

    def test_failed_work_is_given_back_and_done_at_the_next_try(self, services, front, event):
        services.always(500)
        assert event("evt_retried").status_code == 500
        services.always()
        assert event("evt_retried").status_code == 200
        tokens = [(one.key, one.headers["x-fencing-token"]) for one in services.got]
        assert tokens == [("evt_retried", "1"), ("evt_retried", "2")]
        assert not failures(front, "bsStripeGuarded1")

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"secret": "whsec_another"}, "No signature matches."),
            ({"Stripe-Signature": ""}, "No signature matches."),
            ({"Stripe-Signature": "t=1,v1="}, "No signature matches."),
            ({"age": 400}, "The timestamp is out of tolerance."),
            ({"age": -400}, "The timestamp is out of tolerance."),
        ],
    )
    def test_refuses_what_stripe_did_not_sign_just_now(self, services, front, event, wrong, said):
        answer = event("evt_forged", **wrong)
        assert (answer.status_code, answer.json()) == (400, {"error": said})
        assert not front.calls(CLAIM)
        assert not services.got

    def test_does_nothing_while_backstop_is_away(self, services, front, event):
        front.failing[CLAIM] = 1
        assert event("evt_away").status_code == 500
        assert not services.got
