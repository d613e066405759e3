"""A payload edited before it is replayed."""

import json

import pytest

from reliability.models import AuditEntry, Delivery

from .dead_letters import LIST, RTL, act_of, signed_in


def edit(client, letter, payload, **values):
    return client.post(act_of(letter, "edit"), {"payload": payload, "reason": "typo", **values}, follow=True)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ('{\n  "a": 1,\n  "b" 2\n}', "line 3, column 7"),
        ('{"a": }', "line 1, column 7"),
        ('{"a": 1}\n{}', "line 2, column 1"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": "\\u0000"}', "contains a NUL"),
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
    assert "Review changes" in again
    done = edit(client, letter, edited, confirmed="1").content.decode()
    assert "edited payload, new idempotency key" in done
    new = Delivery.objects.get(source="replay")
    assert new.payload == '{"zebra":1,"apple":1e2}'
    assert new.idempotency_key == str(new.pk)
    assert "show changes" in done
    changes = client.get(f"{LIST}{letter.pk}/changes/{new.pk}/").content.decode()
    assert "1e2" in changes
    assert AuditEntry.objects.get(action="replay").reason == "typo"


def test_an_unchanged_payload_is_a_plain_replay(delivered_badly):
    letter, client = delivered_badly(), signed_in("leads")
    same = '{"apple": 2.5, "zebra": 1}'
    assert "This is a plain replay" in edit(client, letter, same).content.decode()
    edit(client, letter, same, confirmed="1")
    new = Delivery.objects.get(source="replay")
    assert (new.payload, new.idempotency_key) == (letter.payload, "order-1")


def test_what_cannot_be_seen_is_an_escape_in_the_editor_and_no_change(bury):
    letter, client = bury(json.dumps({"a": RTL, "é": "\U000e0041"}, ensure_ascii=False)), signed_in("leads")
    field = client.get(act_of(letter, "edit")).context["form"]["payload"].value()
    assert field == '{\n  "a": "\\u202egnp.exe",\n  "é": "\\udb40\\udc41"\n}'
    assert "This is a plain replay" in edit(client, letter, field).content.decode()
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
