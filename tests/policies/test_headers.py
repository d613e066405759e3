import http.client

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies.headers import name_problem, signing_secret_problem, value_problem


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-Api-Key", "X-N8N-Auth", "x_token", "Cookie", "X-Forwarded-User", "!#$%&'*+-.^_`|~09azAZ"],
)
def test_a_header_that_can_authenticate(name):
    assert name_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *(
            (name, "Not a header's name")
            for name in (
                "",
                " ",
                "X–Api–Key",
                "X-A:",
                "X A",
                "X-A\r\nHost",
                "X-A\x00",
                "é",
                "X-A\n",
                "a" * 201,
                "a/b",
                "(a)",
            )
        ),
        *(
            (name, "Backstop sets")
            for name in ("Idempotency-Key", "IDEMPOTENCY-KEY", "X-Backstop-Delivery", "x-backstop-anything")
        ),
        *((name, "Backstop sets") for name in ("X-Request-Id", "traceparent", "tracestate", "User-Agent")),
        *((name, "Backstop sets") for name in ("webhook-id", "Webhook-Signature", "webhook-timestamp")),
        *(
            (name, "connection")
            for name in ("Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade")
        ),
        *((name, "connection") for name in ("Proxy-Authorization", "proxy-connection")),
        *((name, "how the request is sent") for name in ("Host", "Content-Length", "Content-Type", "Expect")),
        *((name, "how the request is sent") for name in ("Content-Encoding", "Accept-Encoding", "Range")),
    ],
)
def test_a_header_that_cannot(name, why):
    assert why in name_problem(name)


@pytest.mark.parametrize("value", ["", "s3cret", "Bearer a b", "é£", "a" * 8192])
def test_a_value_that_can_be_sent(value):
    assert value_problem(value) == ""


@pytest.mark.parametrize(
    "value", [" a", "a ", "a\r\nHost: b", "a\n", "a\x00", "a\tb", "a\x7f", "a\x85", "–", "日本", "a" * 8193, "\xa0a"]
)
def test_a_value_that_cannot(value):
    why = value_problem(value)
    assert why
    assert len(value.strip()) < 2 or value.strip() not in why


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_sound_is_sent_as_it_is(name, value):
    """`http.client` writes it as one header of one line."""
    if name_problem(name) or value_problem(value):
        return
    connection = http.client.HTTPConnection("localhost")
    connection.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
    connection.putheader(name, value)
    lines = connection._buffer[1:]
    assert lines == [f"{name}: {value}".encode("latin-1")]
    assert b"\r" not in lines[0]
    assert b"\n" not in lines[0]


@pytest.mark.parametrize(("secret", "sound"), [("whsec_" + "A" * 32, True), ("whsec_", False), ("A" * 32, False)])
def test_signing_secrets(secret, sound):
    assert (signing_secret_problem(secret) == "") is sound
    assert signing_secret_problem("whsec_é")
