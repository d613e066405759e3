"""Webhook paths: encoded once, whoever wrote them; what leads elsewhere is refused."""

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies import webhook_path

PATHS = [
    # As it is written, as it is sent, as n8n sees it.
    ("notify-gap-fill", "notify-gap-fill", "notify-gap-fill"),
    ("grün", "gr%C3%BCn", "grün"),
    ("gr%C3%BCn", "gr%C3%BCn", "grün"),
    ("gr%c3%bcn", "gr%c3%bcn", "grün"),
    ("日本/a", "%E6%97%A5%E6%9C%AC/a", "日本/a"),
    ("a%20b", "a%20b", "a b"),
    ("100%", "100%25", "100%"),
    ("100%zz", "100%25zz", "100%zz"),
    ("100%25", "100%25", "100%"),
    ("a%2520b", "a%2520b", "a%20b"),
    ("t-dyn/:id/x", "t-dyn/:id/x", "t-dyn/:id/x"),
    ("a/b@c!$&+,;=~-._", "a/b@c!$&+,;=~-._", "a/b@c!$&+,;=~-._"),
    ("a\"<b>'(c)", "a%22%3Cb%3E%27%28c%29", "a\"<b>'(c)"),
    ("a..b", "a..b", "a..b"),
]


@pytest.mark.parametrize(("written", "sent", "seen"), PATHS)
def test_a_path_is_encoded_once(written, sent, seen):
    assert webhook_path.problem(written) == ""
    assert webhook_path.encode(written) == sent
    assert webhook_path.encode(sent) == sent
    assert webhook_path.decode(written) == webhook_path.decode(sent) == seen


@pytest.mark.parametrize(("written", "sent", "seen"), PATHS)
def test_requests_sends_what_n8n_reads_as_that_path(written, sent, seen):
    prepared = requests.Request("POST", f"http://n8n/webhook/{sent}").prepare()
    assert webhook_path.decode(prepared.url) == f"http://n8n/webhook/{seen}"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "is required"),
        ("/", "is required"),
        ("a b", "white space"),
        ("a?b", "'?'"),
        ("a#b", "'#'"),
        ("a\\b", "'\\'"),
        ("a//b", "'//'"),
        ("..", "'..'"),
        ("a/../b", "'..'"),
        ("a/.", "'.'"),
        ("%2e%2E/rest", "'..'"),
        ("a%2F..%2Fb", "'..'"),
        ("a%5C..%5Cb", "'..'"),
        ("a/%2e", "'.'"),
        ("a%00b", "control character"),
        ("a%0d%0ab", "control character"),
        ("a\x7fb", "control character"),
        ("a%FFb", "UTF-8"),
    ],
)
def test_what_is_no_path_is_refused(path, says):
    assert says in webhook_path.problem(path)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_a_nodes_path_is_reached(path):
    """Whatever somebody typed into a Webhook node, what is sent is what n8n decodes to it."""
    taken = webhook_path.from_node(path)
    assert webhook_path.decode(webhook_path.encode(taken)) == path
