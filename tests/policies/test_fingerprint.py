import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies.error_codes import Reason, reason_of
from reliability.policies.fingerprint import LENGTH, fingerprint_of, template_of


@pytest.mark.parametrize(
    ("message", "template"),
    [
        ("No client 4711", "No client <n>"),
        ("took 1,500.25 ms", "took <n> ms"),
        ("boom [line 12]", "boom [line <n>]"),
        ("No such customer: cus_NffrFeUfNV2Hib", "No such customer: <id>"),
        ("delivery 01890a5d-ac96-774b-bcce-b302099a8057 is gone", "delivery <id> is gone"),
        ('The requested webhook "POST x" is not registered.', "The requested webhook <text> is not registered."),
        ("cannot reach https://api.example.com/v1/a?b=c today", "cannot reach <url> today"),
        ("ECONNREFUSED 10.0.4.12:5678", "ECONNREFUSED <address>"),
        ("mail to jenny.rosen+x@example.co.uk failed", "mail to <mail> failed"),
        ("since 2026-01-31T12:00:05.123Z", "since <time>"),
        ("hash 9f86d081884c7d659a2feaa0c55ad015", "hash <id>"),
        ("too\n  many   spaces ", "too many spaces"),
        ("Internal Server Error", "Internal Server Error"),
        ("", ""),
    ],
)
def test_what_differs_is_left_out(message, template):
    assert template_of(message=message) == template


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("http_500", Reason.HTTP_5XX),
        ("http_503", Reason.HTTP_5XX),
        ("http_422", Reason.HTTP_4XX),
        ("http_302", Reason.MISCONFIGURED),
        ("http_401", Reason.MISCONFIGURED),
        ("http_422_not_json", Reason.MISCONFIGURED),
        ("http_403", Reason.REFUSED),
        ("http_413", Reason.REFUSED),
        ("local_fault", Reason.MISCONFIGURED),
        ("http_404_not_registered", Reason.MISCONFIGURED),
        ("read_timeout", Reason.TIMEOUT),
        ("dns_failure", Reason.CONNECTION),
        ("dns_timeout", Reason.CONNECTION),
        ("tls_handshake_timeout", Reason.TIMEOUT),
        ("connection_lost_after_send", Reason.CONNECTION),
        ("proxy_refused", Reason.MISCONFIGURED),
        ("outcome_unknown", Reason.UNKNOWN_OUTCOME),
        ("expired", Reason.EXPIRED),
        ("execution_crashed", Reason.EXECUTION),
        ("trigger_failed", Reason.EXECUTION),
        ("E1", Reason.REPORTED),
        ("", Reason.REPORTED),
    ],
)
def test_every_code_has_a_reason(code, reason):
    assert reason_of(code=code) is reason


def test_failures_of_one_kind_share_a_fingerprint_and_others_do_not():
    first, second = (fingerprint_of(code="http_500", message=f"No client {n}") for n in (4711, 8))
    assert first == second
    assert fingerprint_of(code="http_502", message="No client 1") != first
    assert fingerprint_of(code="http_500", message="No vendor 1") != first


@given(st.text(max_size=300), st.integers(0, 10**12), st.uuids())
def test_it_holds_for_any_text(text, number, name):
    made = fingerprint_of(code="x", message=f"{text} {number} {name}")
    assert len(made) == LENGTH
    assert made == fingerprint_of(code="x", message=f"{text} {number} {name}")
    int(made, 16)


def test_a_long_hostile_text_takes_no_time():
    import time

    begun = time.perf_counter()
    for text in ("a" * 10**6, '"' * 10**6, "1." * 10**5, "a@" * 10**5, "_" * 10**6):
        template_of(message=text)
    assert time.perf_counter() - begun < 1
