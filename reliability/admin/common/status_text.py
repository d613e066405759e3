"""States put into sentences, for someone who was woken up."""

from datetime import datetime, timedelta

from reliability.lanes.breakers import policy_of
from reliability.lanes.wait_reasons import Cause, Wait
from reliability.models import Breaker, BreakerState, Delivery, DeliveryState
from reliability.policies.breaker import failures_in_window
from reliability.templatetags.console import duration, relative

MOST_SHOWN = 10_000
REASON_SHOWN = 160


def until(moment: datetime | None, *, now: datetime, never: str = "") -> str:
    """Return `in 5 min`; what is past is due `now`."""
    if moment is None:
        return never
    return relative(at=moment, now=now) if moment > now else "now"


def wait(found: Wait, *, now: datetime, is_retry: bool = False) -> str:
    """Say what a delivery waits for."""
    when, why = until(found.until, now=now), f" ({short(found.detail)})" if found.detail else ""
    match found.cause:
        case Cause.HELD:
            return "Held until the run before it has ended"
        case Cause.DUE:
            return f"Next attempt {when}" if is_retry else f"Due {when}"
        case Cause.SWITCHED_OFF:
            return "Dispatch is switched off"
        case Cause.PAUSED:
            return f"The workflow is paused{why}{f'; it goes on {when}' if when else ''}"
        case Cause.MISCONFIGURED:
            return f"A setting keeps it from being sent{why}; tried again {when or 'now'}"
        case Cause.BREAKER | Cause.INSTANCE:
            whose = "The" if found.cause is Cause.BREAKER else "n8n's"
            return f"{whose} breaker is open{why}; next probe {when or 'after a reset'}"
        case Cause.LIMIT:
            return f"A place within the limit: {found.count} of {found.limit} in flight"
        case Cause.RATE:
            return f"The rate limit of {found.limit} a minute; {when or 'now'}"
        case Cause.DEMO:
            return "Demo data: it is never sent"
        case _:
            return "Its turn: a worker takes it next"


def short(text: str) -> str:
    """Return the beginning of a reason that may be as long as an answer of n8n's."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_SHOWN else f"{line[:REASON_SHOWN]}…"


def delivery(one: Delivery, *, found: Wait | None, now: datetime) -> str:
    """Say how a delivery stands."""
    if found is not None:
        return f"{wait(found, now=now, is_retry=one.attempt_count > 0)}."
    ended = f" {relative(at=one.finished_at, now=now)}" if one.finished_at else ""
    match one.state:
        case DeliveryState.SENDING:
            return f"A worker is sending it; its lease ends {until(one.lease_until, now=now)}."
        case DeliveryState.AWAITING_CALLBACK:
            return (
                f"n8n took it; the workflow's report is awaited until its deadline, {until(one.lease_until, now=now)}."
            )
        case DeliveryState.DELIVERED:
            took = duration(one.finished_at - one.created_at) if one.finished_at else ""
            return f"Delivered{ended}, {took} after it was accepted."
        case DeliveryState.DEAD:
            return f"Failed for good{ended}, after {_times(one.attempt_count)}."
        case DeliveryState.CANCELLED:
            return f"Withdrawn{ended}."
        case _:
            return f"Skipped{ended}: its payload equals the one before."


def _times(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"


def breaker(one: Breaker, *, waiting: int, now: datetime) -> str:
    """Say how a breaker stands: since when, why, what comes next, and how much waits."""
    sentence = _joined(_state(one, now), _next(one, now))
    if not waiting:
        return sentence
    count = f"{MOST_SHOWN:,} or more" if waiting >= MOST_SHOWN else f"{waiting:,}"
    return f"{sentence} {count} {'delivery waits' if waiting == 1 else 'deliveries wait'}."


def _joined(said: str, more: str) -> str:
    """Return both as one sentence, or as two where the first ends as somebody else ended it: with a question, say."""
    is_ended = said.endswith(("?", "!", "."))
    if not more:
        return said if is_ended else f"{said}."
    return f"{said} {more[0].upper()}{more[1:]}." if is_ended else f"{said}; {more}."


def _state(one: Breaker, now: datetime) -> str:
    since = f" for {duration(now - one.opened_at)}" if one.opened_at and one.opened_at < now else ""
    match one.state:
        case BreakerState.OPEN:
            return f"Open{since}: {_cause(one)}"
        case BreakerState.FORCED_OPEN:
            return f"Held open by hand{since}, {_end(one, now)}{f': {short(one.reason)}' if one.reason else ''}"
        case BreakerState.HALF_OPEN:
            return f"Half-open: one probe at a time ({short(one.reason) or 'recovering'})"
        case _:
            return _closed(one, now)


def _cause(one: Breaker) -> str:
    """Say what opened it. Its window is as it was at that moment, since nothing counts while it is open."""
    rules = policy_of(one)
    failures = failures_in_window(snapshot=one.snapshot, policy=rules, now=one.opened_at) if one.opened_at else 0
    if not failures:
        return short(one.reason) or "no reason was kept"
    return f"{_failures(failures)} in {duration(rules.window)} ({short(one.reason)})"


def _closed(one: Breaker, now: datetime) -> str:
    rules = policy_of(one)
    failures = failures_in_window(snapshot=one.snapshot, policy=rules, now=now)
    said = f"Closed: {_failures(failures)} of {rules.threshold} in the last {duration(rules.window)}"
    return said + (f", {one.ramp} at a time while it warms up" if one.ramp is not None else "")


def _failures(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"


def _end(one: Breaker, now: datetime) -> str:
    """Say until when it is held open by hand."""
    if one.forced_until is None:
        return "until it is reset"
    return f"until its first probe {until(one.forced_until, now=now)}"


def _next(one: Breaker, now: datetime) -> str:
    match one.state:
        case BreakerState.OPEN:
            return f"next probe {until(one.next_probe_at, now=now, never='now')}"
        case BreakerState.HALF_OPEN if one.probe_until is not None and one.probe_until > now:
            return f"a probe is out, its lease ends {until(one.probe_until, now=now)}"
        case BreakerState.HALF_OPEN:
            return "the next delivery is its probe"
        case _:
            return ""


def span(found: timedelta | None) -> str:
    """Return a duration as lists show it."""
    if found is None:
        return "—"
    milliseconds = found.total_seconds() * 1000
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else duration(found)
