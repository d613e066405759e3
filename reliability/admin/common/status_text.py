"""Describes states in sentences, for an operator on call: what a delivery waits for, and why a breaker is open."""

from datetime import datetime, timedelta

from reliability.lanes.breakers import policy_of
from reliability.lanes.wait_reasons import Cause, Wait
from reliability.models import Breaker, BreakerState, Delivery, DeliveryState
from reliability.policies.breaker import failures_in_window
from reliability.templatetags.console import duration, relative

MOST_SHOWN = 10_000
REASON_SHOWN = 160


def until(moment: datetime | None, *, now: datetime, never: str = "") -> str:
    """Return `in 5 min`, or `now` for a moment that has passed; `never` where there is none."""
    if moment is None:
        return never
    return relative(at=moment, now=now) if moment > now else "now"


def wait(found: Wait, *, now: datetime, is_retry: bool = False) -> str:
    """Describe what a pending delivery waits for."""
    when, why = until(found.until, now=now), f" ({short(found.detail)})" if found.detail else ""
    match found.cause:
        case Cause.HELD:
            return "Waiting for the previous run to finish"
        case Cause.DUE:
            return f"Next attempt {when}" if is_retry else f"Due {when}"
        case Cause.SWITCHED_OFF:
            return "Dispatch is switched off"
        case Cause.PAUSED:
            return f"Workflow paused{why}{f'; resumes {when}' if when else ''}"
        case Cause.MISCONFIGURED:
            return f"Not sendable with the current settings{why}; next attempt {when or 'now'}"
        case Cause.BREAKER | Cause.INSTANCE:
            whose = "The" if found.cause is Cause.BREAKER else "The n8n instance's"
            # Without a time, a probe may go now, or the breaker is forced open: the breaker's page says which.
            return f"{whose} breaker is open{why}{f'; next probe {when}' if when else ''}"
        case Cause.LIMIT:
            return f"Waiting for a slot ({found.count} of {found.limit} in use)"
        case Cause.RATE:
            return f"Rate limit of {found.limit} per minute reached; next attempt {when or 'now'}"
        case Cause.DEMO:
            return "Demo data, never sent"
        case _:
            return "Ready to send; waiting for a worker"


def short(text: str) -> str:
    """Return the first `REASON_SHOWN` characters on one line: an error from n8n can be as long as its response."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_SHOWN else f"{line[:REASON_SHOWN]}…"


def delivery(one: Delivery, *, found: Wait | None, now: datetime) -> str:
    """Describe a delivery's state and what happens next."""
    if found is not None:
        return f"{wait(found, now=now, is_retry=one.attempt_count > 0)}."
    ended = f" {relative(at=one.finished_at, now=now)}" if one.finished_at else ""
    match one.state:
        case DeliveryState.SENDING:
            return f"A worker is sending it; its lease ends {until(one.lease_until, now=now)}."
        case DeliveryState.AWAITING_CALLBACK:
            return f"n8n accepted it; waiting for the workflow's callback, deadline {until(one.lease_until, now=now)}."
        case DeliveryState.DELIVERED:
            took = duration(one.finished_at - one.created_at) if one.finished_at else ""
            return f"Delivered{ended}, {took} after it was accepted."
        case DeliveryState.DEAD:
            return f"Failed permanently{ended}, after {_attempts(one.attempt_count)}."
        case DeliveryState.CANCELLED:
            return f"Cancelled{ended}."
        case _:
            return f"Skipped{ended}: same payload as the previous delivery."


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"


def breaker(one: Breaker, *, waiting: int, now: datetime) -> str:
    """Describe a breaker: since when and why it is in its state, the next probe, and how many deliveries wait."""
    sentence = _joined(_state(one, now), _next(one, now))
    if not waiting:
        return sentence
    count = f"{MOST_SHOWN:,} or more" if waiting >= MOST_SHOWN else f"{waiting:,}"
    return f"{sentence} {count} {'delivery is' if waiting == 1 else 'deliveries are'} waiting."


def _joined(first: str, more: str) -> str:
    """Join both with a semicolon, or as two sentences where the first (an error from outside) ends one itself."""
    is_ended = first.endswith(("?", "!", "."))
    if not more:
        return first if is_ended else f"{first}."
    return f"{first} {more[0].upper()}{more[1:]}." if is_ended else f"{first}; {more}."


def _state(one: Breaker, now: datetime) -> str:
    since = f" for {duration(now - one.opened_at)}" if one.opened_at and one.opened_at < now else ""
    match one.state:
        case BreakerState.OPEN:
            return f"Open{since}: {_cause(one)}"
        case BreakerState.FORCED_OPEN:
            return f"Forced open{since}, {_end(one, now)}{f': {short(one.reason)}' if one.reason else ''}"
        case BreakerState.HALF_OPEN:
            return f"Half-open: one probe at a time ({short(one.reason) or 'recovering'})"
        case _:
            return _closed(one, now)


def _cause(one: Breaker) -> str:
    """Return what opened it. An open breaker counts nothing, so its window still holds the failures that opened it."""
    rules = policy_of(one)
    failures = failures_in_window(snapshot=one.snapshot, policy=rules, now=one.opened_at) if one.opened_at else 0
    if not failures:
        return short(one.reason) or "no reason recorded"
    return f"{_failures(failures)} in {duration(rules.window)} ({short(one.reason)})"


def _closed(one: Breaker, now: datetime) -> str:
    rules = policy_of(one)
    failures = failures_in_window(snapshot=one.snapshot, policy=rules, now=now)
    text = f"Closed: {_failures(failures)} in the last {duration(rules.window)}, opens at {rules.threshold}"
    return text + (f"; ramping up, {one.ramp} in flight at most" if one.ramp is not None else "")


def _failures(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"


def _end(one: Breaker, now: datetime) -> str:
    """Return when a breaker that was forced open lets traffic through again."""
    if one.forced_until is None:
        return "until it is reset"
    return f"until the first probe {until(one.forced_until, now=now)}"


def _next(one: Breaker, now: datetime) -> str:
    match one.state:
        case BreakerState.OPEN:
            return f"next probe {until(one.next_probe_at, now=now, never='now')}"
        case BreakerState.HALF_OPEN if one.probe_until is not None and one.probe_until > now:
            return f"a probe is in flight, its lease ends {until(one.probe_until, now=now)}"
        case BreakerState.HALF_OPEN:
            return "the next delivery is the probe"
        case _:
            return ""


def span(found: timedelta | None) -> str:
    """Return a duration for a list's column: milliseconds below a second, a dash where it is unknown."""
    if found is None:
        return "—"
    milliseconds = found.total_seconds() * 1000
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else duration(found)
