"""Where work comes from: what a request's headers may say, and who takes its id."""

from contextlib import suppress
from uuid import UUID

import pytest

from reliability.core import request_context
from reliability.core.request_context import RequestContext

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("given", ["a", "0", "req-1.2:3/4+5=6@7_8", "x" * 128, "01a20f9b-0bb8-7484-913f-a1f9f535be17"])
def test_a_harmless_id_is_taken_over(given):
    with request_context.within(request_context.from_headers(given=given, traceparent=None)) as found:
        assert (found.request_id, request_context.take_own_id()) == (given, None)


@pytest.mark.parametrize("given", [None, "", "x" * 129, "-a", "a b", "a\nb", "a\x00", "ä", '"a"', "a,b", "<a>", "{a}"])
def test_any_other_gives_way_to_one_of_our_own(given):
    with request_context.within(request_context.from_headers(given=given, traceparent=None)) as found:
        assert UUID(found.request_id).version == 7
        own = request_context.take_own_id()
        assert str(own) == found.request_id
        assert request_context.take_own_id() is None  # two deliveries cannot have it
        request_context.return_own_id(own)
        assert request_context.take_own_id() == own
    assert request_context.take_own_id() is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TRACE, TRACE),
        (None, ""),
        (TRACE.upper(), ""),
        (TRACE + "-x", ""),
        (TRACE.replace("00-", "ff-", 1), ""),
        (TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), ""),
        (TRACE.replace("00f067aa0ba902b7", "0" * 16), ""),
        (TRACE + "\n", ""),
    ],
)
def test_a_trace_is_kept_as_it_is_or_not_at_all(given, kept):
    assert request_context.from_headers(given="a", traceparent=given).traceparent == kept


def test_it_ends_with_the_request_whatever_happens():
    with suppress(KeyError), request_context.within(RequestContext("a")):
        assert request_context.request_id() == "a"
        raise KeyError
    assert request_context.request_id() == ""
    assert request_context.stored_ids() == ("", "")


@pytest.mark.parametrize(
    ("header", "body", "known"),
    [(None, "b", "b"), ("a", "b", "a"), (None, "a b", None), (None, "", None)],
    ids=["body", "header-wins", "unsafe", "empty"],
)
def test_a_body_may_name_what_the_headers_did_not(header, body, known):
    with request_context.within(request_context.from_headers(given=header, traceparent=None)) as found:
        before = found.request_id
        request_context.use_body_id(body)
    assert found.request_id == (known or before)
