"""Checks every alert rule, saves the status of each alert, and writes notices about changes.

    read (bounded queries) -> evaluate (policies.alerts) -> save the status, with a notice per channel and its wake-up
    -> notices: claim, send outside of any transaction, record

One check runs at a time: it holds an advisory lock from before its first reading until its rows are committed, so that
two checks cannot notify about the same change twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.errors import Conflict, InvalidInput, NotFound
from reliability.models import Alert, AlertSilence, AlertState, Workflow
from reliability.policies import alert_rules, alert_text
from reliability.policies import alerts as policy
from reliability.policies.alerts import AlertStatus, ChangeKind, Reading, State, Verdict
from reliability.stats import process_stats

from . import notices as alert_notices
from . import readings as alert_readings

# The key of the advisory lock that serialises checks.
LOCK = 1_112_757_841
# Only checks on the same machine see a process. After this time without a check there, its alert resolves.
FORGOTTEN = timedelta(hours=1)
# How long a check still lists a resolved alert.
RECENT = timedelta(hours=1)
WRITTEN = tuple(field.name for field in Alert._meta.concrete_fields if not field.primary_key)

Key = tuple[str, str, str, str]


class NotFiring(Conflict):
    """Only a firing alert can be acknowledged."""

    code = "not_firing"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a check's result: an alert, or with the state `ok` a rule without any alert."""

    rule: alert_rules.Rule
    state: State
    workflow: str = ""
    tenant: str = ""
    subject: str = ""
    value: float | None = None
    limit: float | None = None
    since: datetime | None = None
    summary: str = ""
    is_silenced: bool = False
    is_acknowledged: bool = False
    told: ChangeKind | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check, and the ids of the notices that it wrote."""

    now: datetime
    lines: Sequence[Line]
    notices: Sequence[UUID]

    @property
    def firing(self) -> int:
        return sum(line.state is State.FIRING for line in self.lines)


@dataclass(frozen=True, slots=True)
class _Evaluated:
    alert: Alert
    reading: Reading | None
    before: AlertStatus
    verdict: Verdict
    is_silenced: bool

    @property
    def is_worth_saving(self) -> bool:
        """Whether the row changes: an alert that was resolved before stays as it is."""
        status = self.verdict.status
        is_old = status.state is State.RESOLVED and status == self.before
        return status.state is not State.OK and not is_old


def check(*, now: datetime, dry_run: bool = False) -> Checked:
    """Check every rule, save the status of each alert, and write the notices.

    Sends nothing: each notice has a wake-up, and `alert_notices.send_due` sends at once. With `dry_run`, it also saves
    nothing.
    """
    with transaction.atomic():
        _lock_checks()
        used = process_stats.measure(now=now, keep=not dry_run)
        readings = {one.key: one for one in alert_readings.take(now=now, processes=used)}
        evaluated = _evaluate_all(readings, now)
        notices = [] if dry_run else _save(evaluated, now)
    return Checked(now, _lines(evaluated, readings, now), notices)


def acknowledge(*, alert_id: UUID, actor: Actor, now: datetime, until: datetime | None = None) -> Alert:
    """Stop the reminders of an alert until `until`, or until it resolves. Raises `NotFound` and `NotFiring`."""
    with transaction.atomic():
        alert = Alert.objects.select_for_update(no_key=True).filter(pk=alert_id).first()
        if alert is None:
            raise NotFound("There is no such alert.")
        if alert.state != AlertState.FIRING:
            raise NotFiring(f"Only a firing alert can be acknowledged. This one is {alert.state}.")
        alert.acknowledged, alert.acknowledged_until, alert.acknowledged_at = True, until, now
        alert.acknowledged_by, alert.acknowledged_reason = actor.name, actor.reason
        alert.save()
        details = {"until": until.isoformat()} if until else {}
        audit.record(actor=actor, action="acknowledge_alert", now=now, target=alert, details=details)
    return alert


def silence(
    *, actor: Actor, now: datetime, until: datetime | None, alert: str = "", workflow: str = ""
) -> AlertSilence:
    """Silence an alert, a workflow, both or everything until `until`. Raises `InvalidInput`."""
    errors = {}
    if until is None or until <= now:
        errors["until"] = ["Give a future time."]
    if not actor.reason.strip():
        errors["reason"] = ["Give a reason."]
    if alert and alert not in alert_rules.BY_NAME:
        errors["alert"] = [f"There is no alert '{alert}'."]
    if workflow and not Workflow.objects.filter(slug=workflow).exists():
        errors["workflow"] = [f"There is no workflow '{workflow}'."]
    if errors or until is None:
        raise InvalidInput(errors=errors)
    with transaction.atomic():
        made = AlertSilence.objects.create(
            alert=alert, workflow=workflow, until=until, reason=actor.reason, created_at=now, created_by=actor.name
        )
        audit.record(actor=actor, action="silence_alerts", now=now, target=made, details={"until": until.isoformat()})
    return made


def silence_one(*, alert_id: UUID, actor: Actor, now: datetime, until: datetime | None = None) -> AlertSilence:
    """Silence one alert and its workflow. Raises `NotFound` and `InvalidInput`."""
    alert = Alert.objects.filter(pk=alert_id).first()
    if alert is None:
        raise NotFound("There is no such alert.")
    known = Workflow.objects.filter(slug=alert.workflow).exists()
    return silence(actor=actor, now=now, until=until, alert=alert.name, workflow=alert.workflow if known else "")


def end_silence(*, silence_id: UUID, actor: Actor, now: datetime) -> AlertSilence:
    """End a silence now. The next check notifies about alerts that are still firing. Raises `NotFound`."""
    with transaction.atomic():
        found = AlertSilence.objects.select_for_update(no_key=True).filter(pk=silence_id).first()
        if found is None:
            raise NotFound("There is no such silence.")
        if found.until > now:
            found.until = now
            found.save(update_fields=["until"])
            audit.record(actor=actor, action="end_silence", now=now, target=found)
    return found


def _lock_checks() -> None:
    """Wait for a running check to end. The lock is released with the transaction, or with the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def _evaluate_all(readings: dict[Key, Reading], now: datetime) -> list[_Evaluated]:
    """Evaluate saved alerts and new readings; readings within their limit and without an alert are left out."""
    silences = [one.rule for one in AlertSilence.objects.filter(until__gt=now)]
    known = {one.key: one for one in Alert.objects.select_for_update(no_key=True) if not _is_elsewhere(one, now)}
    evaluated = []
    for key in sorted(readings.keys() | known.keys()):
        name, workflow = key[0], key[1]
        rule, reading = alert_rules.BY_NAME.get(name), readings.get(key)
        if rule is None:
            continue  # of a newer version, before a downgrade
        silenced = policy.is_silenced(silences=silences, alert=name, workflow=workflow, now=now)
        alert = known.get(key)
        before = alert.standing if alert is not None else AlertStatus()
        verdict = policy.evaluate(
            rule=rule,
            reading=reading,
            status=before,
            silenced=silenced,
            repeat=timedelta(minutes=settings.ALERT_REPEAT_MINUTES),
            now=now,
        )
        if alert is not None or verdict.status.state is not State.OK:
            evaluated.append(_Evaluated(alert or _new(key, rule), reading, before, verdict, silenced))
    return evaluated


def _is_elsewhere(alert: Alert, now: datetime) -> bool:
    own = alert.name not in alert_readings.OF_PROCESSES or process_stats.is_here(alert.subject)
    return not own and now - alert.checked_at < FORGOTTEN


def _new(key: Key, rule: alert_rules.Rule) -> Alert:
    name, workflow, tenant, subject = key
    return Alert(name=name, workflow=workflow, tenant=tenant, subject=subject, severity=str(rule.severity))


def _save(evaluated: Sequence[_Evaluated], now: datetime) -> list[UUID]:
    """Save the alerts, in two statements, and write the notices.

    An alert that was only pending, and is within its limit again, is deleted.
    """
    for one in evaluated:
        _apply(one, now)
    gone = [one.alert.pk for one in evaluated if one.verdict.status.state is State.OK]
    Alert.objects.filter(pk__in=gone).delete()
    changed = [one.alert for one in evaluated if one.is_worth_saving]
    Alert.objects.bulk_create(changed, update_conflicts=True, unique_fields=("id",), update_fields=WRITTEN)
    told = [(one.alert, one.verdict.change) for one in evaluated if one.verdict.change is not None]
    alert_notices.wake_overdue(now=now)
    return alert_notices.write(told=told, now=now)


def _apply(one: _Evaluated, now: datetime) -> None:
    """Apply the verdict. A resolved alert keeps its last value beyond the limit."""
    alert, status = one.alert, one.verdict.status
    if one.reading is not None and status.state is not State.RESOLVED:
        alert.value, alert.limit = one.reading.value, one.reading.limit
        alert.summary = alert_text.summary(reading=one.reading)
    alert.take(status)
    alert.severity, alert.checked_at = str(alert_rules.BY_NAME[alert.name].severity), now


def _lines(evaluated: Sequence[_Evaluated], readings: dict[Key, Reading], now: datetime) -> list[Line]:
    """Return the alerts, firing ones first, and one line for each rule without any."""
    order = (State.FIRING, State.PENDING, State.RESOLVED)
    kept = [_line(one) for one in evaluated if _is_listed(one.verdict.status, now)]
    out = sorted(kept, key=lambda line: order.index(line.state))
    named = {line.rule.name for line in out if line.state is not State.RESOLVED}
    return out + [_ok_line(rule, readings) for rule in alert_rules.RULES if rule.name not in named]


def _is_listed(status: AlertStatus, now: datetime) -> bool:
    if status.state is State.RESOLVED:
        return status.resolved_at is not None and now - status.resolved_at < RECENT
    return status.state is not State.OK


def _line(one: _Evaluated) -> Line:
    name, workflow, tenant, subject = one.alert.key
    status, reading = one.verdict.status, one.reading
    return Line(
        rule=alert_rules.BY_NAME[name],
        state=status.state,
        workflow=workflow,
        tenant=tenant,
        subject=subject,
        value=reading.value if reading else None,
        limit=reading.limit if reading else one.alert.limit,
        since=status.resolved_at or status.firing_since or status.pending_since,
        summary=alert_text.summary(reading=reading) if reading else one.alert.summary,
        is_silenced=one.is_silenced,
        is_acknowledged=status.acknowledged,
        told=one.verdict.change,
    )


def _ok_line(rule: alert_rules.Rule, readings: dict[Key, Reading]) -> Line:
    """Return the line of a rule without an alert, with the value closest to its limit."""
    own = [one for one in readings.values() if one.name == rule.name]
    pick = min if rule.bound is alert_rules.Bound.BELOW else max
    worst = pick(own, key=lambda one: one.value) if own else None
    limit = worst.limit if worst else (alert_readings.limit_of(rule.name) if rule.setting or rule.limit else None)
    return Line(rule=rule, state=State.OK, value=worst.value if worst else None, limit=limit)
