"""The list of dead letters, by what a viewer, an operator and a lead meet."""

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reliability.core import clock
from reliability.models import AuditEntry, DeadLetter, Delivery

from .dead_letters import LIST, act_of, page_of, signed_in


def found(client: Client, **params) -> list[DeadLetter]:
    return list(client.get(LIST, params).context["cl"].result_list)


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
    assert "first failed before" in client.get(LIST, wanted).content.decode()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"after": "yesterday"}, "is not a valid time"),
        ({"before": "2026-02-31"}, "is not a valid time"),
        ({"after": "0001-01-01T00:00+23:59"}, "is not a valid time"),
        ({"after": "2026-03-02", "before": "2026-03-01"}, "is before its start"),
        ({"status__exact": "deadish"}, "is not a valid status"),
        ({"reason": "http_9xx"}, "is not a valid reason"),
        ({"source": "'; --"}, "is not a valid source"),
        ({"q": "a\x00b"}, "holds an invalid character"),
        ({"workflow": "\x00"}, "holds an invalid character"),
        ({"error_code": "x" * 300}, "longer than"),
        ({"workfow": "echo"}, "There is no filter"),
        ({"status__exact": ["dead", "purged"]}, "more than once"),
        ({"id__gt": "1"}, "There is no filter"),
    ],
)
def test_what_cannot_be_read_matches_nothing_and_says_so(bury, params, words):
    bury()
    response = signed_in().get(LIST, params)
    assert response.status_code == 200
    assert list(response.context["cl"].result_list) == []
    text = response.content.decode()
    assert words in text
    assert "Replay all matches" not in text


def test_an_unknown_workflow_matches_nothing(bury):
    bury()
    text = signed_in().get(LIST, {"workflow": "nobody"}).content.decode()
    assert "No dead letter matches this filter" in text


def test_nothing_dead_and_nothing_matching_read_differently(db):
    client = signed_in("viewers")
    assert "Every failure has recovered or has been handled" in client.get(LIST).content.decode()
    assert "Nothing matches" in client.get(LIST, {"q": "x"}).content.decode()


def test_search_finds_by_id_key_execution_and_words(delivered_badly, bury):
    letter, other = delivered_badly(), bury(execution_id="4711", message="client not found")
    client = signed_in("viewers")
    assert found(client, q=str(letter.pk)) == [letter]
    assert found(client, q="order-1") == [letter]
    assert found(client, q="4711") == [other]
    assert found(client, q="client not") == [other]


def test_pages_go_on_and_back_without_a_gap(bury, monkeypatch):
    monkeypatch.setattr("reliability.admin.dead_letters.change_list.PAGE", 3)
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
    assert "skipped: Can&#x27;t replay: the dead letter is replaying" in text
    assert Delivery.objects.count() == 1
    text = client.post(LIST, {**chosen, "_selected_action": "1 OR 1=1"}, follow=True).content.decode()
    assert "holds an invalid dead letter id. Nothing was changed." in text


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


def test_all_that_match_leads_to_the_bulk_pages_with_the_same_filter(bury):
    bury(reason="timeout")
    client = signed_in("leads")
    shown = client.get(LIST, {"reason": "timeout", "workflow": "echo"})
    for kind in ("replay", "purge"):
        address = shown.context[f"bulk_{kind}"]
        assert address.endswith("?workflow=echo&reason=timeout")
        assert client.get(address).status_code == 200
    assert not client.get(LIST, {"status__exact": "recovered"}).context["bulk_replay"]
