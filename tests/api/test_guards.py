"""Permits, slots and claims: what guards work that others than Backstop start."""

import json
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.dateparse import parse_datetime

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.delivery import dispatch
from reliability.lanes import breakers, opening
from reliability.models import ApiKey, Breaker, BreakerTransition, Delivery, Lane, Slot, StripeClaim, Workflow
from reliability.models.breaker import SNAPSHOT_FIELDS
from reliability.policies import breaker as policy

PERMIT = "/api/v1/breakers/permit/?workflow=echo"
SLOTS = "/api/v1/slots/"
CLAIM = "/api/v1/stripe-events/claim/"
ACTOR = Actor("test", "because")


def post(api, url, body):
    return api.post(url, json.dumps(body), content_type="application/json")


def open_lane(tenant: str = "default") -> Lane:
    return opening.open_lane(workflow_id=Workflow.objects.get(slug="echo").pk, tenant=tenant)


@pytest.mark.django_db
class TestPermits:
    def test_a_closed_breaker_permits_and_so_does_a_lane_that_was_never_used(self, workflow, api):
        workflow()
        assert api.get(PERMIT).json() == {"permitted": True, "probe": False}
        open_lane()
        response = api.get(PERMIT)
        assert (response.status_code, response.json()) == (200, {"permitted": True, "probe": False})

    @pytest.mark.parametrize("state", ["closed", "open", "due"])
    def test_it_costs_two_statements_at_the_most_the_first_time_too(self, workflow, key, state):
        workflow()
        lane, now = open_lane(), clock.now()
        due = now + timedelta(minutes=-1 if state == "due" else 1)
        if state != "closed":
            Breaker.objects.filter(lane=lane).update(
                state="open", opened_at=now - timedelta(hours=1), next_probe_at=due
            )
        fresh = Client(headers={"Authorization": f"Bearer {key()}"})
        with CaptureQueriesContext(
            connection,
        ) as queries:
            response = fresh.get(PERMIT)
        assert response.status_code == (503 if state == "open" else 200)
        assert len(queries) <= 2
        assert ApiKey.objects.get().last_used_at is not None

    def test_an_open_breaker_says_when_to_come_again(self, workflow, api):
        workflow()
        lane, now = open_lane(), clock.now()
        rows = Breaker.objects.filter(lane=lane)
        rows.update(state="open", reason="http_500: no", opened_at=now, next_probe_at=now + timedelta(seconds=90))
        response = api.get(PERMIT)
        assert response.status_code == 503
        assert 88 <= int(response.headers["Retry-After"]) <= 90
        assert "http_500" in response.json()["detail"]
        rows.update(next_probe_at=now - timedelta(seconds=1))
        assert api.get(PERMIT).json() == {"permitted": True, "probe": True}
        assert api.get(PERMIT).status_code == 503  # one probe at a time
        assert BreakerTransition.objects.get().to_state == "half_open"
        rows.update(probe_until=now - timedelta(seconds=1))
        assert api.get(PERMIT).json()["probe"] is True  # the first one's lease is over

    def test_the_operators_hand_holds(self, workflow, api):
        workflow()
        breaker = open_lane().breaker
        breakers.force_open(breaker_id=breaker.pk, actor=ACTOR, now=clock.now())
        assert api.get(PERMIT).status_code == 503
        breakers.reset(breaker_id=breaker.pk, actor=ACTOR, now=clock.now())
        assert api.get(PERMIT).status_code == 200
        breakers.force_open(breaker_id=breakers.instance().pk, actor=ACTOR, now=clock.now())
        assert api.get(PERMIT).status_code == 503

    def test_an_instance_that_is_due_for_a_probe_holds_nobody_up(self, workflow, api):
        workflow()
        breakers.instance()
        past = clock.now() - timedelta(seconds=1)
        Breaker.objects.filter(scope="instance").update(state="open", opened_at=past, next_probe_at=past)
        assert api.get(PERMIT).status_code == 200
        Breaker.objects.filter(scope="instance").update(next_probe_at=past + timedelta(hours=1))
        assert api.get(PERMIT).status_code == 503

    def test_a_pause_is_told(self, workflow, api):
        workflow(paused=True)
        assert "paused" in api.get(PERMIT).json()["detail"]
        Workflow.objects.update(paused_until=clock.now() - timedelta(seconds=1))
        assert api.get(PERMIT).status_code == 200

    def test_bad_input(self, api, key):
        assert api.get("/api/v1/breakers/permit/").json()["errors"].keys() == {"workflow"}
        assert api.get(PERMIT).json()["type"].endswith("unknown-workflow")
        assert api.get(PERMIT + "&tenant=A").status_code == 400
        own = Client(headers={"X-API-Key": key(tenant="acme")})
        assert own.get(PERMIT + "&tenant=other").status_code == 403

    def test_the_database_decides_as_the_policy_does(self, workflow):
        """Every state against every clock: whether a probe is due."""
        workflow()
        lane, now = open_lane(), clock.now()
        moments = (None, now - timedelta(minutes=1), now, now + timedelta(minutes=1))
        for state in policy.State:
            for at in moments:
                for opened in moments:
                    values = dict.fromkeys(("next_probe_at", "probe_until", "forced_until"), at)
                    Breaker.objects.filter(lane=lane).update(state=state, opened_at=opened, **values)
                    row = Breaker.objects.get(lane=lane)
                    with connection.cursor() as cursor:
                        cursor.execute(
                            "SELECT backstop_breaker_due(b, %s) FROM reliability_breaker b WHERE id = %s", [now, row.pk]
                        )
                        (due,) = cursor.fetchone()
                    assert due is policy.admit(snapshot=row.snapshot, now=now).probe, (state, at, opened)
        assert {"state", "next_probe_at", "probe_until", "forced_until", "opened_at"} <= set(SNAPSHOT_FIELDS)


@pytest.mark.django_db
class TestSlots:
    def test_places_are_taken_up_to_the_limit_and_given_back(self, workflow, api):
        workflow(concurrency_limit=2)
        first, second, third = (post(api, SLOTS, {"workflow": "echo"}) for _ in range(3))
        assert (first.status_code, second.status_code, third.status_code) == (201, 201, 429)
        assert first.json().keys() == {"id", "workflow", "tenant", "expires_at"}
        assert int(third.headers["Retry-After"]) >= 1
        assert third.json()["type"].endswith("limit-reached")
        assert api.delete(f"{SLOTS}{first.json()['id']}/").status_code == 204
        assert api.delete(f"{SLOTS}{first.json()['id']}/").status_code == 404
        assert post(api, SLOTS, {"workflow": "echo"}).status_code == 201

    def test_another_tenant_has_places_of_its_own(self, workflow, api):
        workflow(concurrency_limit=1)
        assert post(api, SLOTS, {"workflow": "echo"}).status_code == 201
        assert post(api, SLOTS, {"workflow": "echo", "tenant": "acme"}).status_code == 201

    def test_a_lease_that_ran_out_frees_its_place(self, workflow, api):
        workflow(concurrency_limit=1)
        taken = post(api, SLOTS, {"workflow": "echo", "lease_seconds": 10}).json()
        assert timedelta(seconds=9) < parse_datetime(taken["expires_at"]) - clock.now() <= timedelta(seconds=10)
        Slot.objects.update(expires_at=clock.now())
        assert post(api, SLOTS, {"workflow": "echo"}).status_code == 201
        assert Slot.objects.count() == 1

    def test_deliveries_and_slots_share_the_limit(self, workflow, api, accept_many):
        workflow(concurrency_limit=3)
        lane = accept_many(5)[0].lane_id
        post(api, SLOTS, {"workflow": "echo"})
        round_ = dispatch.run(lane_id=lane, sent=[], capacity=10)
        assert len(round_.claims) == 2
        assert round_.full
        assert post(api, SLOTS, {"workflow": "echo"}).status_code == 429
        Delivery.objects.filter(state="sending").update(state="delivered")
        assert post(api, SLOTS, {"workflow": "echo"}).status_code == 201

    def test_a_place_given_back_wakes_the_lane(self, workflow, api, accept):
        workflow(concurrency_limit=1)
        taken = post(api, SLOTS, {"workflow": "echo"}).json()["id"]
        accept()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM procrastinate_jobs")
            api.delete(f"{SLOTS}{taken}/")
            cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'dispatch'")
            assert cursor.fetchone()[0] >= 1

    def test_bad_input(self, workflow, api, key):
        workflow()
        for body in ({}, {"workflow": "nope"}, {"workflow": "echo", "lease_seconds": 0}, {"workflow": "echo", "x": 1}):
            assert post(api, SLOTS, body).status_code == 400
        taken = post(api, SLOTS, {"workflow": "echo"}).json()["id"]
        other = Client(headers={"X-API-Key": key(tenant="acme")})
        assert other.delete(f"{SLOTS}{taken}/").status_code == 404
        assert Slot.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_slots_hold_the_limit_however_many_ask_at_once(workflow, key):
    workflow(concurrency_limit=5)
    header, codes, gate = {"X-API-Key": key()}, [], threading.Barrier(24)

    def ask():
        gate.wait()
        codes.append(post(Client(headers=header), SLOTS, {"workflow": "echo"}).status_code)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(codes) == [201] * 5 + [429] * 19
    assert Slot.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_a_waiting_delivery_goes_when_a_place_is_given_back(workflow, api, accept, receiver, workers):
    workflow(concurrency_limit=1)
    taken = post(api, SLOTS, {"workflow": "echo", "lease_seconds": 600}).json()["id"]
    accept()
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    accept({"n": 2})
    assert not receiver.got
    api.delete(f"{SLOTS}{taken}/")
    receiver.wait_for(2)


@pytest.mark.django_db(transaction=True)
def test_a_waiting_delivery_goes_when_a_slots_lease_ends(workflow, api, accept, receiver, workers):
    workflow(concurrency_limit=1)
    expires = parse_datetime(post(api, SLOTS, {"workflow": "echo", "lease_seconds": 4}).json()["expires_at"])
    accept()
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    (got,) = receiver.wait_for(1)
    assert got.at >= expires.timestamp()


@pytest.mark.django_db
class TestClaims:
    def test_claimed_once_and_processed_once(self, api):
        first = post(api, CLAIM, {"event_id": "evt_1"})
        assert first.status_code == 201
        claim = first.json()
        assert claim == {
            "id": claim["id"],
            "event_id": "evt_1",
            "workflow": "",
            "tenant": "default",
            "status": "processing",
            "fencing_token": 1,
            "lease_until": claim["lease_until"],
            "result": None,
        }
        held = post(api, CLAIM, {"event_id": "evt_1"})
        assert held.status_code == 409
        assert 1 <= int(held.headers["Retry-After"]) <= 300
        url = f"/api/v1/stripe-events/{claim['id']}/complete/"
        for _ in range(2):  # told twice, done once
            done = post(api, url, {"fencing_token": 1, "result": {"charged": True}})
            assert (done.status_code, done.json()["status"]) == (200, "processed")
        again = post(api, CLAIM, {"event_id": "evt_1"})
        assert (again.status_code, again.json()["result"]) == (200, {"charged": True})

    def test_what_failed_may_be_claimed_again_under_a_new_token(self, api):
        claim = post(api, CLAIM, {"event_id": "evt_1"}).json()
        post(api, f"/api/v1/stripe-events/{claim['id']}/fail/", {"fencing_token": 1, "error": "no"})
        again = post(api, CLAIM, {"event_id": "evt_1"})
        assert (again.status_code, again.json()["fencing_token"]) == (201, 2)

    def test_an_old_token_is_refused(self, api):
        claim = post(api, CLAIM, {"event_id": "evt_1", "lease_seconds": 1}).json()
        StripeClaim.objects.update(lease_until=clock.now())
        assert post(api, CLAIM, {"event_id": "evt_1"}).json()["fencing_token"] == 2
        for end in ("complete", "fail"):
            late = post(api, f"/api/v1/stripe-events/{claim['id']}/{end}/", {"fencing_token": 1})
            assert late.status_code == 409
        kept = StripeClaim.objects.get()
        assert (kept.status, kept.result, kept.error) == ("processing", None, "")
        assert post(api, "/api/v1/stripe-events/evt_1/complete/", {"fencing_token": 2}).status_code == 200
        assert post(api, "/api/v1/stripe-events/evt_1/fail/", {"fencing_token": 2}).status_code == 409

    def test_workflows_tenants_accounts_and_modes_claim_each_for_themselves(self, api):
        for more in ({}, {"workflow": "a"}, {"tenant": "acme"}, {"account": "acct_1"}, {"livemode": False}):
            assert post(api, CLAIM, {"event_id": "evt_1", **more}).status_code == 201
        by_event = post(api, "/api/v1/stripe-events/evt_1/complete/", {"fencing_token": 1})
        assert (by_event.status_code, "own id" in by_event.json()["detail"]) == (409, True)
        assert not StripeClaim.objects.filter(status="processed").exists()

    def test_bad_input(self, api, key):
        for body in ({}, {"event_id": ""}, {"event_id": "é"}, {"event_id": 7}, {"event_id": "e", "lease_seconds": 0}):
            assert post(api, CLAIM, body).status_code == 400
        claim = post(api, CLAIM, {"event_id": "evt_1"}).json()
        for body in ({}, {"fencing_token": "x"}, {"fencing_token": 0}, {"fencing_token": 1, "result": "x" * 70_000}):
            assert post(api, f"/api/v1/stripe-events/{claim['id']}/complete/", body).status_code == 400
        other = Client(headers={"X-API-Key": key(tenant="acme")})
        assert post(other, f"/api/v1/stripe-events/{claim['id']}/complete/", {"fencing_token": 1}).status_code == 404
        reader = Client(headers={"X-API-Key": key(scopes=["read"])})
        assert post(reader, CLAIM, {"event_id": "evt_2"}).status_code == 403
        assert StripeClaim.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_one_of_many_who_claim_at_once_wins(key):
    header, codes, gate = {"X-API-Key": key()}, [], threading.Barrier(24)

    def ask():
        gate.wait()
        codes.append(post(Client(headers=header), CLAIM, {"event_id": "evt_1"}).status_code)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(codes) == [201] + [409] * 23


@pytest.mark.django_db
@pytest.mark.parametrize("verb", ["complete", "fail"])
@pytest.mark.parametrize("name", ["%00", "evt_%00", "evt%0A1"])
def test_a_claim_by_a_name_that_no_event_has_is_not_found(api, name, verb):
    answer = post(api, f"/api/v1/stripe-events/{name}/{verb}/", {"fencing_token": 1})
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
