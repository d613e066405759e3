"""Known secrets leave what is stored, however they are written."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies.classification import Reply
from reliability.policies.redaction import REDACTED, Redactor

SECRET = 'pa"ss/w\\ord+12 ü&x'
WAYS = {
    "as it is": lambda text: text,
    "JSON": json.dumps,
    "JSON, not escaped": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON with a slash escaped": lambda text: json.dumps(text).replace("/", r"\/"),
    "JSON within JSON": lambda text: json.dumps(json.dumps(text)),
    "a path": lambda text: quote(text, safe=""),
    "a path, in small letters": lambda text: quote(text, safe="").replace("%2F", "%2f"),
    "a query": quote_plus,
    "HTML": html.escape,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_hidden_however_it_is_written(way):
    written = WAYS[way](SECRET)
    found = Redactor([SECRET]).text(f"before {written} after {written}")
    assert (found.count(REDACTED), "ord" in found, found[:7]) == (2, False, "before ")


@given(st.text(min_size=8, max_size=40), st.sampled_from(sorted(WAYS)), st.text(max_size=20))
def test_any_secret_is_hidden(secret, way, around):
    if any(0xD800 <= ord(one) < 0xE000 for one in secret):
        return
    written = WAYS[way](secret)
    if way.startswith("JSON") and any(ord(one) < 0x20 or ord(one) > 0xFFFF for one in secret):
        return  # headers hold neither
    assert written not in Redactor([secret]).text(f"{around}{written}").replace(REDACTED, "\x00")


@pytest.mark.parametrize("shown", ["Bearer tok-123456", "tok-123456", "the token 'tok-123456'."])
def test_the_token_of_a_scheme_is_hidden_without_it(shown):
    assert "tok-123456" not in Redactor(["Bearer tok-123456"]).text(shown)


def test_what_basic_encodes_is_hidden():
    encoded = base64.b64encode(b"olga:long-password").decode()
    found = Redactor([f"Basic {encoded}"]).text(f"{encoded} olga:long-password long-password")
    assert found == f"{REDACTED} {REDACTED} {REDACTED}"


def test_what_is_short_shreds_no_text():
    hide = Redactor(["on", "", "Bearer ok", "abcdef"])
    assert hide.text('{"ok": true, "on": "abcdefgh"}') == '{"ok": true, "on": "abcdefgh"}'


def test_what_is_short_is_hidden_as_a_whole_header():
    found = Redactor(["abcdef"]).reply(Reply(200, {"x-echo": "abcdef", "x-other": "abcdefg"}, ""), cut_at=100)
    assert found.headers == {"x-echo": REDACTED, "x-other": "abcdefg"}


def test_a_key_of_backstop_s_is_hidden_by_its_prefix():
    assert Redactor([]).text("key bsk_" + 43 * "a" + "!") == f"key {REDACTED}!"


def test_a_secret_that_the_limit_cut_is_hidden():
    body = 90 * "x" + "geheimer-s"
    found = Redactor(["geheimer-schluessel"]).reply(Reply(200, {}, body), cut_at=100)
    assert found.body == 90 * "x" + REDACTED
    assert Redactor(["geheimer-schluessel"]).reply(Reply(200, {}, body), cut_at=101).body == body


def test_json_stays_json():
    body = json.dumps({"message": f"bad key {SECRET}", "n": 1})
    found = Redactor([SECRET]).reply(Reply(400, {}, body), cut_at=10_000).body
    assert json.loads(found) == {"message": f"bad key {REDACTED}", "n": 1}


@pytest.mark.parametrize("way", WAYS)
def test_one_secret_among_many_is_hidden_too(way):
    many = Redactor([*(f"other{i:05}-secret/{i}" for i in range(5000)), "+-/*", "!!!!????----", SECRET])
    text = f"before {WAYS[way](SECRET)} other00007-secret/7 !!!!????---- after"
    found = many.text(text)
    assert (found.count(REDACTED), "ord" in found) == (3, False)
    assert len(many._patterns) < 10


@given(st.lists(st.text(min_size=8, max_size=20), max_size=100), st.data())
def test_many_secrets_are_hidden_as_few_are(secrets, data):
    text = data.draw(st.text(max_size=30)).join(secrets[:5])
    many = Redactor([*secrets, *(f"{i:08}" for i in range(100))])
    few = Redactor([*secrets, *(f"{i:08}" for i in range(100))])
    few._candidates = lambda text: few._sought
    assert many.text(text) == few.text(text)
