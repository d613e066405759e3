"""The list of dead letters and the page of one, by what a viewer, an operator and a lead meet."""

import csv
import io
import json
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reliability.models import (
    Attempt,
    AuditEntry,
    BreakerState,
    DeadLetter,
    Delivery,
    ExecutionRetry,
    FailureGroup,
    FailureReport,
    Lane,
)
from reliability.models.ids import uuid7
from reliability.pipeline import burial, clock, export

LIST = "/admin/reliability/deadletter/"
NASTY = "</script><img src=x onerror=alert(1)>"
RTL = "\u202egnp.exe"


def signed_in(group: str | None = None) -> Client:
    user, _ = User.objects.get_or_create(
        username=f"someone-{group}", defaults={"is_staff": True, "is_superuser": group is None}
    )
    if group:
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


def page_of(letter) -> str:
    return f"{LIST}{letter.pk}/change/"


def act_of(letter, verb: str) -> str:
    return f"{LIST}{letter.pk}/{verb}/"


@pytest.fixture
def bury(workflow):
    """Make a dead letter; `values` are set on its row."""

    def make(payload: str = '{"n": 1}', *, slug: str = "echo", tenant: str = "default", message="no", **values):
        if not Lane.objects.filter(workflow__slug=slug).exists():
            workflow(slug, paused=True)
        report = burial.Report(slug, tenant, payload, message, values.pop("code", "E1"))
        letter = burial.report(report=report, now=clock.now())
        DeadLetter.objects.filter(pk=letter.pk).update(**values)
        letter.refresh_from_db()
        return letter

    return make


@pytest.fixture
def delivered_badly(workflow, accept):
    """Make a dead letter of a delivery with three attempts."""

    def make(payload=None, **values) -> DeadLetter:
        workflow(paused=True, **values)
        delivery = accept(payload or {"zebra": 1, "apple": 2.50}, idempotency_key="order-1")
        begun = clock.now() - timedelta(hours=1)
        for number in (1, 2, 3):
            Attempt.objects.create(
                delivery=delivery,
                number=number,
                result="transient",
                code="http_502",
                error=f"upstream {NASTY}",
                status_code=502 if number > 1 else None,
                started_at=begun + timedelta(minutes=10 * number),
                duration_ms=1500,
                response_headers={"server": NASTY},
                response_body=json.dumps({"message": NASTY, "filler": "x" * 5000}),
            )
        Delivery.objects.filter(pk=delivery.pk).update(state="dead", attempt_count=3, finished_at=clock.now())
        return DeadLetter.objects.create(
            lane=delivery.lane,
            delivery=delivery,
            source="delivery",
            payload=delivery.payload,
            error_code="http_502",
            error_message=f"502 {NASTY} {RTL}",
            reason="http_5xx",
            fingerprint="abc",
            retry_count=2,
            created_at=clock.now(),
            died_at=clock.now(),
            expires_at=clock.now() + timedelta(hours=24),
        )

    return make


def found(client: Client, **params) -> list[DeadLetter]:
    return list(client.get(LIST, params).context["cl"].result_list)


# --- The list -------------------------------------------------------------------------------------------------
def test_what_is_dead_is_shown_unless_another_status_is_asked_for(bury):
    dead, purged, recovered = bury(), bury(status="purged"), bury(status="recovered")
    client = signed_in("viewers")
    assert found(client) == [dead]
    assert found(client, status__exact="purged") == [purged]
    assert found(client, status__exact="all") == [recovered, purged, dead]


def test_each_filter_narrows_and_they_add_up(bury):
    mine = bury(
        slug="gap-fill",
        tenant="acme",
        code="http_502",
        reason="http_5xx",
        fingerprint="f1",
        created_at=clock.now() - timedelta(hours=2),
    )
    bury(slug="other")
    client = signed_in("viewers")
    wanted = {
        "workflow": "gap-fill",
        "tenant": "acme",
        "error_code": "http_502",
        "reason": "http_5xx",
        "fingerprint": "f1",
        "before": f"{clock.now() - timedelta(hours=1):%Y-%m-%dT%H:%M:%S}",
    }
    for name, value in wanted.items():
        assert found(client, **{name: value}) == [mine], name
    assert found(client, **wanted, after=(mine.created_at - timedelta(seconds=1)).isoformat(), source="api") == [mine]
    assert found(client, **wanted, after=(mine.created_at + timedelta(minutes=1)).isoformat()) == []


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"after": "yesterday"}, "is not a time"),
        ({"before": "2026-02-31"}, "is not a time"),
        ({"after": "0001-01-01T00:00+23:59"}, "is not a time"),
        ({"after": "2026-03-02", "before": "2026-03-01"}, "ends before it begins"),
        ({"status__exact": "deadish"}, "is no status"),
        ({"reason": "http_9xx"}, "is no reason"),
        ({"source": "'; --"}, "is no source"),
        ({"q": "a\x00b"}, "cannot be stored"),
        ({"workflow": "\x00"}, "cannot be stored"),
        ({"error_code": "x" * 300}, "longer than"),
        ({"workfow": "echo"}, "is not a filter"),
        ({"status__exact": ["dead", "purged"]}, "more than once"),
        ({"id__gt": "1"}, "is not a filter"),
    ],
)
def test_what_cannot_be_read_matches_nothing_and_says_so(bury, params, words):
    bury()
    response = signed_in().get(LIST, params)
    assert response.status_code == 200
    assert list(response.context["cl"].result_list) == []
    text = response.content.decode()
    assert words in text
    assert "all that match" not in text


def test_an_unknown_workflow_matches_nothing(bury):
    bury()
    text = signed_in().get(LIST, {"workflow": "nobody"}).content.decode()
    assert "No dead letter fits this filter" in text


def test_nothing_dead_and_nothing_matching_read_differently(db):
    client = signed_in("viewers")
    assert "Nothing is dead" in client.get(LIST).content.decode()
    assert "Nothing matches" in client.get(LIST, {"q": "x"}).content.decode()


def test_search_finds_by_id_key_execution_and_words(delivered_badly, bury):
    letter, other = delivered_badly(), bury(execution_id="4711", message="client not found")
    client = signed_in("viewers")
    assert found(client, q=str(letter.pk)) == [letter]
    assert found(client, q="order-1") == [letter]
    assert found(client, q="4711") == [other]
    assert found(client, q="client not") == [other]


def test_pages_go_on_and_back_without_a_gap(bury, monkeypatch):
    monkeypatch.setattr("reliability.admin.letter_list.PAGE", 3)
    letters = [bury() for _ in range(8)][::-1]
    client, seen, address = signed_in("viewers"), [], "?status__exact=dead"
    while address:
        cl = client.get(LIST + address).context["cl"]
        seen.append(list(cl.result_list))
        address, back = cl.next_address, cl.previous_address
    assert [one for page in seen for one in page] == letters
    assert [len(page) for page in seen] == [3, 3, 2]
    cl = client.get(LIST + back).context["cl"]
    assert list(cl.result_list) == seen[1]
    cl = client.get(LIST + cl.previous_address).context["cl"]
    assert (list(cl.result_list), cl.previous_address) == (seen[0], "")
    assert "status__exact=dead" in cl.next_address
    assert found(client, order="oldest") == letters[::-1][:3]


def test_a_list_takes_few_queries_and_no_payload(bury, delivered_badly):
    delivered_badly()
    for n in range(60):
        bury(slug="other", message=str(n))
    client = signed_in("operators")
    client.get(LIST)
    with CaptureQueriesContext(
        connection,
    ) as taken:
        client.get(LIST, {"status__exact": "dead"})
    assert len(taken) <= 15, [one["sql"][:100] for one in taken]
    rows = [one["sql"] for one in taken if "error_message" in one["sql"]]
    assert rows
    assert not any('"payload"' in sql for sql in rows)


@pytest.mark.parametrize(
    ("group", "may"),
    [("viewers", set()), ("operators", {"Replay", "Export"}), ("leads", {"Replay", "Export", "Purge"})],
)
def test_only_what_one_may_press_is_there(bury, group, may):
    letter = bury()
    text = signed_in(group).get(LIST).content.decode()
    assert (act_of(letter, "replay") in text) == ("Replay" in may)
    assert ('value="purge_selected"' in text) == ("Purge" in may)
    assert ('id="bs-export"' in text) == ("Export" in may)
    assert ("_selected_action" in text) == bool(may)


def test_after_a_replay_the_list_has_its_filters_again(bury):
    letter = bury()
    client = signed_in("operators")
    kept = urlencode({"_changelist_filters": "status__exact=dead&workflow=echo"})
    assert (
        f"{act_of(letter, 'replay')}?_changelist_filters=workflow%3Decho"
        in client.get(LIST, {"workflow": "echo"}).content.decode()
    )
    done = client.post(f"{act_of(letter, 'replay')}?{kept}", {"confirmed": "1", "reason": "back"})
    assert done.url == f"{LIST}?status__exact=dead&workflow=echo"
    stays = client.post(f"{act_of(letter, 'replay')}?stay=1&{kept}", {"confirmed": "1", "reason": "back"})
    assert stays.url.startswith(page_of(letter))


def test_a_second_post_and_a_stranger_are_told_and_nothing_is_done(bury):
    letter = bury()
    client = signed_in("operators")
    chosen = {"action": "replay_selected", "_selected_action": str(letter.pk), "confirmed": "1", "reason": "again"}
    client.post(LIST, chosen)
    text = client.post(LIST, chosen, follow=True).content.decode()
    assert "left as they were: Only a dead letter can be replayed; this one is replaying" in text
    assert Delivery.objects.count() == 1
    text = client.post(LIST, {**chosen, "_selected_action": "1 OR 1=1"}, follow=True).content.decode()
    assert "is no dead letter. Nothing was done." in text


def test_a_right_that_was_taken_away_is_named(bury):
    letter, client = bury(), signed_in("operators")
    User.objects.get(username="someone-operators").groups.set([Group.objects.get(name="viewers")])
    chosen = {"action": "replay_selected", "_selected_action": str(letter.pk), "confirmed": "1", "reason": "again"}
    posts = [(LIST, chosen), (act_of(letter, "replay"), chosen), (act_of(letter, "edit"), chosen)]
    for address, values in posts:
        assert client.post(address, values).status_code == 403
    assert client.post(f"{LIST}export/", {"kind": "csv", "reason": "x"}).status_code == 403
    assert not Delivery.objects.exists()
    assert not AuditEntry.objects.exists()


def test_an_expired_session_leads_to_the_sign_in_and_does_nothing(bury):
    letter, client = bury(), signed_in("operators")
    client.session.flush()
    client.cookies.clear()
    for verb in ("replay", "purge", "edit"):
        answer = client.post(act_of(letter, verb), {"confirmed": "1", "reason": "x", "payload": "{}"})
        assert answer.status_code == 302
        assert "/login/" in answer.url
    letter.refresh_from_db()
    assert letter.status == "dead"


# --- The page -------------------------------------------------------------------------------------------------
def test_the_page_says_what_why_and_what_happened(delivered_badly):
    letter = delivered_badly(slug="echo")
    FailureGroup.objects.update_or_create(
        workflow=letter.lane.workflow,
        fingerprint="abc",
        defaults={"reason": "http_5xx", "dead": 7, "seen": 9, "first_at": clock.now(), "last_at": clock.now()},
    )
    text = signed_in("viewers").get(page_of(letter)).content.decode()
    assert "HTTP 5xx · <bdi>http_502</bdi>" in text
    assert "3 attempts over 20 min" in text
    assert "6 others failed the same way" in text
    assert "fingerprint=abc" in text
    assert "no response" in text
    assert "waited 9 min before the next" in text
    assert "The workflow is paused" in text
    assert text.index("#3") < text.index("#2") < text.index("#1")
    assert text.index("zebra") < text.index("apple")
    assert "2.50" in text or "2.5" in text


def test_a_page_takes_few_queries(delivered_badly):
    letter, client = delivered_badly(), signed_in("operators")
    client.get(page_of(letter))
    with CaptureQueriesContext(connection) as taken:
        client.get(page_of(letter))
    assert len(taken) <= 15 + 2, [one["sql"][:100] for one in taken]  # two of them are the sidebar's


def test_hostile_text_is_shown_and_does_nothing(delivered_badly):
    letter = delivered_badly({"</script><script>alert(1)</script>": NASTY, "a\"b'c": RTL}, auth_value="s3cret")
    client = signed_in()
    for address in (LIST, page_of(letter), act_of(letter, "edit"), act_of(letter, "replay")):
        text = client.get(address).content.decode()
        assert "<img src=x" not in text
        assert "<script>alert" not in text
        assert "s3cret" not in text
    assert RTL not in client.get(page_of(letter)).content.decode().partition("data-copy")[0]


def test_a_link_to_n8n_is_a_web_address_or_none(bury):
    bad = bury(execution_id="1", execution_url="javascript:alert(1)")
    good = bury(execution_id="2", execution_url="https://n8n.example.com/workflow/1/executions/2")
    client = signed_in("viewers")
    assert "javascript:" not in client.get(page_of(bad)).content.decode()
    assert f'href="{good.execution_url}"' in client.get(page_of(good)).content.decode()


def test_ten_megabytes_and_deep_nesting_are_cut_with_a_way_to_the_whole(bury):
    long = '{"a": "' + "x" * 10_000_000 + '"}'
    letter, deep = bury(long), bury("[" * 100 + "]" * 100)
    client = signed_in()
    text = client.get(page_of(letter)).content.decode()
    assert len(text) < 500_000
    assert "Show the whole" in text
    assert "too long to edit here" in text
    assert "@payload.json" in text
    whole = client.get(f"{LIST}{letter.pk}/payload/")
    assert whole.content.decode() == long
    assert whole["Content-Type"].startswith("text/plain")
    assert "sandbox" in whole["Content-Security-Policy"]
    assert client.get(page_of(deep)).status_code == 200


def test_an_attempts_whole_answer_is_its_own_letters_alone(delivered_badly, bury):
    letter, other = delivered_badly(), bury()
    attempt = Attempt.objects.first()
    client = signed_in("viewers")
    assert "filler" in client.get(f"{LIST}{letter.pk}/attempts/{attempt.pk}/").content.decode()
    assert client.get(f"{LIST}{other.pk}/attempts/{attempt.pk}/").status_code == 404
    assert client.get(f"{LIST}{uuid7()}/payload/").status_code == 404
    assert client.get(f"{LIST}nonsense/change/").status_code == 404


def test_what_cannot_be_done_is_disabled_and_says_why(bury, settings):
    settings.N8N_API_KEY = ""
    dead, purged = bury(), bury(status="recovered")
    text = signed_in("viewers").get(page_of(dead)).content.decode()
    assert "You need the permission reliability.replay_deadletter" in text
    assert "You need the permission reliability.purge_deadletter" in text
    text = signed_in("leads").get(page_of(dead)).content.decode()
    assert f"{act_of(dead, 'edit')}?stay=1" in text
    assert "n8n reported no execution" in text
    text = signed_in("leads").get(page_of(purged)).content.decode()
    assert "this one is recovered" in text
    reported = bury(source="n8n", execution_id="12")
    text = signed_in("leads").get(page_of(reported)).content.decode()
    assert "set N8N_API_KEY" in text
    assert "there is no payload for the webhook" in text


def test_a_purge_is_undone_on_the_page(bury):
    letter, client = bury(), signed_in("leads")
    client.post(f"{act_of(letter, 'purge')}?stay=1", {"confirmed": "1", "reason": "by mistake"})
    assert "Its payload will be erased" in client.get(page_of(letter)).content.decode()
    assert signed_in("operators").post(act_of(letter, "undo-purge"), {"confirmed": "1"}).status_code == 403
    client.post(f"{act_of(letter, 'undo-purge')}?stay=1", {"confirmed": "1", "reason": "it was wanted"})
    letter.refresh_from_db()
    assert letter.status == "dead"
    assert "it was wanted" in client.get(page_of(letter)).content.decode()


def test_all_that_match_leads_to_the_bulk_pages_with_the_same_filter(bury):
    bury(reason="timeout")
    client = signed_in("leads")
    shown = client.get(LIST, {"reason": "timeout", "workflow": "echo"})
    for kind in ("replay", "purge"):
        address = shown.context[f"bulk_{kind}"]
        assert address.endswith("?workflow=echo&reason=timeout")
        assert client.get(address).status_code == 200
    assert not client.get(LIST, {"status__exact": "recovered"}).context["bulk_replay"]


def test_curl_has_the_request_and_no_secret(delivered_badly):
    letter = delivered_badly(
        {"it": "isn't"}, auth_header="X-Auth", auth_value="s3cret", signing_secret="whsec_" + "A" * 32
    )
    buttons = signed_in("viewers").get(page_of(letter)).context["buttons"]
    command = next(one.copies for one in buttons if one.copies)
    assert "s3cret" not in command
    assert "whsec_" not in command
    assert "X-Auth: <SECRET>" in command
    assert "Idempotency-Key: order-1" in command
    assert f"X-Backstop-Delivery: {letter.delivery_id}" in command
    assert f"webhook-id: {letter.delivery_id}" in command
    assert "X-Backstop-Attempt: 3" in command
    assert """--data-binary '{"it": "isn'"'"'t"}'""" in command


def test_reports_retries_and_breakers_are_on_the_page(bury, lane_breaker):
    letter = bury(source="n8n", execution_id="12")
    now = clock.now()
    FailureReport.objects.create(state="buried", dead_letter=letter, execution_id="12", node=NASTY, reported_at=now)
    ExecutionRetry.objects.create(
        dead_letter=letter, execution_id="12", state="failed", error="no", due_at=now, created_at=now
    )
    breaker = lane_breaker()
    breaker.state, breaker.opened_at, breaker.reason = BreakerState.OPEN, now, "10 failures"
    breaker.save()
    client = signed_in("viewers")
    text = client.get(page_of(letter)).content.decode()
    assert "retry in n8n of execution" in text
    assert "A replay waits until it lets something through" in text
    assert "10 failures" in text
    assert "<img" not in text.partition("What n8n reported</h3>")[2].partition("</section>")[0]
    assert "Replays to it wait" in client.get(LIST).content.decode()


# --- Edit and replay ------------------------------------------------------------------------------------------
def edit(client, letter, payload, **values):
    return client.post(act_of(letter, "edit"), {"payload": payload, "reason": "typo", **values}, follow=True)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ('{\n  "a": 1,\n  "b" 2\n}', "line 3, column 7"),
        ('{"a": }', "line 1, column 7"),
        ('{"a": 1}\n{}', "line 2, column 1"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": "\\u0000"}', "holds a NUL"),
        ("[" * 200 + "]" * 200, "nested more than"),
        ('"text"', "object or array"),
    ],
)
def test_what_is_not_json_is_said_with_its_place(bury, payload, words):
    letter = bury()
    text = edit(signed_in("leads"), letter, payload).content.decode()
    assert words in text
    assert "bs-field-error" in text
    assert not Delivery.objects.exists()


def test_an_edit_is_compared_first_and_then_sent_under_a_new_key(delivered_badly):
    letter, client = delivered_badly(), signed_in("leads")
    shown = client.get(act_of(letter, "edit")).content.decode()
    assert "{\n  &quot;zebra&quot;: 1,\n  &quot;apple&quot;: 2.5\n}" in shown
    edited = '{\r\n  "zebra": 1,\r\n  "apple": 1e2\r\n}'
    compared = edit(client, letter, edited).content.decode()
    assert "new idempotency key" in compared
    assert "bs-diff-removed" in compared
    assert Delivery.objects.count() == 1
    again = edit(client, letter, edited, again="1").content.decode()
    assert "Show what is changed" in again
    done = edit(client, letter, edited, confirmed="1").content.decode()
    assert "edited, under a new idempotency key" in done
    new = Delivery.objects.get(source="replay")
    assert new.payload == '{"zebra":1,"apple":1e2}'
    assert new.idempotency_key == str(new.pk)
    assert "what was changed" in done
    changes = client.get(f"{LIST}{letter.pk}/changes/{new.pk}/").content.decode()
    assert "1e2" in changes
    assert AuditEntry.objects.get(action="replay").reason == "typo"


def test_an_unchanged_payload_is_a_plain_replay(delivered_badly):
    letter, client = delivered_badly(), signed_in("leads")
    same = '{"apple": 2.5, "zebra": 1}'
    assert "this is a plain replay" in edit(client, letter, same).content.decode()
    edit(client, letter, same, confirmed="1")
    new = Delivery.objects.get(source="replay")
    assert (new.payload, new.idempotency_key) == (letter.payload, "order-1")


def test_what_cannot_be_seen_is_an_escape_in_the_editor_and_no_change(bury):
    letter, client = bury(json.dumps({"a": RTL, "é": "\U000e0041"}, ensure_ascii=False)), signed_in("leads")
    field = client.get(act_of(letter, "edit")).context["form"]["payload"].value()
    assert field == '{\n  "a": "\\u202egnp.exe",\n  "é": "\\udb40\\udc41"\n}'
    assert "this is a plain replay" in edit(client, letter, field).content.decode()
    changed = edit(client, letter, field.replace("gnp", "gpj"))
    assert [line.kind for line in changed.context["lines"]] == ["hunk", "same", "removed", "added", "same", "same"]


def test_an_edit_sent_twice_goes_out_once(delivered_badly):
    letter, client = delivered_badly(), signed_in("leads")
    for _ in range(2):
        done = edit(client, letter, '{"a": 1}', confirmed="1").content.decode()
    assert "Nothing was sent" in done
    assert Delivery.objects.filter(source="replay").count() == 1


def test_an_edit_needs_a_reason(bury):
    letter = bury()
    edit(signed_in("leads"), letter, '{"a": 1}', confirmed="1", reason=" ")
    assert not Delivery.objects.exists()


# --- Export ---------------------------------------------------------------------------------------------------
def exported(client, kind, **params) -> str:
    answer = client.post(f"{LIST}export/?{urlencode(params)}", {"kind": kind, "reason": "for the vendor"})
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode()


def test_the_filtered_list_is_exported_and_on_record(bury, monkeypatch):
    monkeypatch.setattr(export, "BATCH", 2)
    monkeypatch.setattr(export, "TOGETHER", 100)
    letters = [bury('{"b":1.50,\n"a":"' + "x" * size + '"}') for size in (1, 500, 2, 3, 4)]
    bury(slug="other")
    client = signed_in("operators")
    lines = exported(client, "jsonl", workflow="echo").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(one.pk) for one in letters[::-1]]
    assert json.loads(lines[3])["payload"]["a"] == "x" * 500
    assert '"b":1.50' in lines[0]
    entry = AuditEntry.objects.get(action="export_dead_letters")
    assert (entry.count, entry.reason) == (5, "for the vendor")
    assert entry.details == {"filter": {"workflow": "echo", "status": "dead"}, "format": "jsonl"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "\r", "＝"])
def test_no_cell_is_a_formula(bury, start):
    bury(message=f'{start}HYPERLINK("http://x","y")', code="=1+1")
    rows = list(csv.DictReader(io.StringIO(exported(signed_in("operators"), "csv").removeprefix("\ufeff"), newline="")))
    assert rows[0]["error_message"].startswith("'")
    assert rows[0]["error_code"] == "'=1+1"
    assert rows[0]["retry_count"] == "0"


def test_an_export_of_nonsense_gives_nothing(bury):
    bury()
    client = signed_in("operators")
    for address, values in [
        ("?after=yesterday", {"kind": "csv", "reason": "x"}),
        ("", {"kind": "exe", "reason": "x"}),
        ("", {"kind": "csv", "reason": " "}),
    ]:
        answer = client.post(f"{LIST}export/{address}", values, follow=True)
        assert "Nothing was exported" in answer.content.decode()
    assert client.get(f"{LIST}export/").status_code == 302
    assert not AuditEntry.objects.exists()
