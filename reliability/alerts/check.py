"""Watches over everything else: what is wrong, since when, and who has to hear of it.

    read (bounded queries) -> judge (policies.alerts) -> keep the standing, with a notice per channel and its wake-up
    -> notices: claim, send outside of any transaction, record

One check at a time: it holds an advisory lock from before its first reading until its rows have committed, so that two
at once tell nothing twice.
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
from reliability.policies.alerts import Reading, Standing, State, Tell, Verdict
from reliability.stats import process_stats

from . import notices as alert_notices
from . import readings as alert_readings

# The one advisory lock of those who check.
LOCK = 1_112_757_841
# What processes of other machines use is told by checks over there; one that no check has seen for so long is over.
FORGOTTEN = timedelta(hours=1)
# For so long what is over is still shown by a check.
RECENT = timedelta(hours=1)
WRITTEN = tuple(field.name for field in Alert._meta.concrete_fields if not field.primary_key)
OF_PROCESSES = ("MemoryHigh", "CpuHigh")

Key = tuple[str, str, str, str]


class NotFiring(Conflict):
    """Only an alert that fires can be acknowledged."""

    code = "not_firing"


@dataclass(frozen=True, slots=True)
class Line:
    """One condition as it stands after a check. An `ok` one is a rule of which nothing is wrong."""

    rule: alert_rules.Rule
    state: State
    workflow: str = ""
    tenant: str = ""
    subject: str = ""
    value: float | None = None
    limit: float | None = None
    since: datetime | None = None
    summary: str = ""
    is_quiet: bool = False
    is_acknowledged: bool = False
    told: Tell | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found, and the notices that it wrote."""

    now: datetime
    lines: Sequence[Line]
    notices: Sequence[UUID]

    @property
    def firing(self) -> int:
        return sum(line.state is State.FIRING for line in self.lines)


@dataclass(frozen=True, slots=True)
class _Judged:
    alert: Alert
    reading: Reading | None
    before: Standing
    verdict: Verdict
    is_quiet: bool

    @property
    def is_worth_saving(self) -> bool:
        """Whether there is something to keep: what is over since long stays as it is."""
        standing = self.verdict.standing
        is_old = standing.state is State.RESOLVED and standing == self.before
        return standing.state is not State.OK and not is_old


def check(*, now: datetime, dry_run: bool = False) -> Checked:
    """Look at every condition, keep how each alert stands, and write down what is to be told.

    Nothing is sent here: each notice has a wake-up, and `alert_notices.send_due` sends at once. With `dry_run`, nothing
    is kept either.
    """
    with transaction.atomic():
        _alone()
        used = process_stats.measure(now=now, keep=not dry_run)
        readings = {one.key: one for one in alert_readings.take(now=now, processes=used)}
        judged = _judge_all(readings, now)
        notices = [] if dry_run else _keep(judged, now)
    return Checked(now, _lines(judged, readings, now), notices)


def acknowledge(*, alert_id: UUID, actor: Actor, now: datetime, until: datetime | None = None) -> Alert:
    """Take an alert on: no reminders until `until`, or until it is over. Raises `NotFound` and `NotFiring`."""
    with transaction.atomic():
        alert = Alert.objects.select_for_update(no_key=True).filter(pk=alert_id).first()
        if alert is None:
            raise NotFound("There is no such alert.")
        if alert.state != AlertState.FIRING:
            raise NotFiring(f"Only an alert that fires can be acknowledged; this one is {alert.state}.")
        alert.acknowledged, alert.acknowledged_until, alert.acknowledged_at = True, until, now
        alert.acknowledged_by, alert.acknowledged_reason = actor.name, actor.reason
        alert.save()
        details = {"until": until.isoformat()} if until else {}
        audit.record(actor=actor, action="acknowledge_alert", now=now, target=alert, details=details)
    return alert


def silence(
    *, actor: Actor, now: datetime, until: datetime | None, alert: str = "", workflow: str = ""
) -> AlertSilence:
    """Tell nothing of an alert, of a workflow, of both or of all until `until`. Raises `InvalidInput`."""
    errors = {}
    if until is None or until <= now:
        errors["until"] = ["A moment to come is needed."]
    if not actor.reason.strip():
        errors["reason"] = ["A reason is needed."]
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
    """As `silence`, of one alert and its workflow. Raises `NotFound` and `InvalidInput`."""
    alert = Alert.objects.filter(pk=alert_id).first()
    if alert is None:
        raise NotFound("There is no such alert.")
    known = Workflow.objects.filter(slug=alert.workflow).exists()
    return silence(actor=actor, now=now, until=until, alert=alert.name, workflow=alert.workflow if known else "")


def end_silence(*, silence_id: UUID, actor: Actor, now: datetime) -> AlertSilence:
    """End a quiet period now; what fires still is told with the next check. Raises `NotFound`."""
    with transaction.atomic():
        found = AlertSilence.objects.select_for_update(no_key=True).filter(pk=silence_id).first()
        if found is None:
            raise NotFound("There is no such quiet period.")
        if found.until > now:
            found.until = now
            found.save(update_fields=["until"])
            audit.record(actor=actor, action="end_silence", now=now, target=found)
    return found


def _alone() -> None:
    """Wait for any other check to end; the lock ends with the transaction, or with the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def _judge_all(readings: dict[Key, Reading], now: datetime) -> list[_Judged]:
    """Judge what is known and what is read; what is neither wrong nor known is left out."""
    silences = [one.rule for one in AlertSilence.objects.filter(until__gt=now)]
    known = {one.key: one for one in Alert.objects.select_for_update(no_key=True) if not _is_elsewhere(one, now)}
    judged = []
    for key in sorted(readings.keys() | known.keys()):
        name, workflow = key[0], key[1]
        rule, reading = alert_rules.BY_NAME.get(name), readings.get(key)
        if rule is None:
            continue  # of a version that knew more
        quiet = policy.is_quiet(silences=silences, alert=name, workflow=workflow, now=now)
        alert = known.get(key)
        before = alert.standing if alert is not None else Standing()
        verdict = policy.judge(
            rule=rule,
            reading=reading,
            standing=before,
            quiet=quiet,
            repeat=timedelta(minutes=settings.ALERT_REPEAT_MINUTES),
            now=now,
        )
        if alert is not None or verdict.standing.state is not State.OK:
            judged.append(_Judged(alert or _new(key, rule), reading, before, verdict, quiet))
    return judged


def _is_elsewhere(alert: Alert, now: datetime) -> bool:
    own = alert.name not in OF_PROCESSES or process_stats.is_here(alert.subject)
    return not own and now - alert.checked_at < FORGOTTEN


def _new(key: Key, rule: alert_rules.Rule) -> Alert:
    name, workflow, tenant, subject = key
    return Alert(name=name, workflow=workflow, tenant=tenant, subject=subject, severity=str(rule.severity))


def _keep(judged: Sequence[_Judged], now: datetime) -> list[UUID]:
    """Save how each stands, in two statements, and write the notices.

    What never fired and is right again leaves no row.
    """
    for one in judged:
        _describe(one, now)
    gone = [one.alert.pk for one in judged if one.verdict.standing.state is State.OK]
    Alert.objects.filter(pk__in=gone).delete()
    changed = [one.alert for one in judged if one.is_worth_saving]
    Alert.objects.bulk_create(changed, update_conflicts=True, unique_fields=("id",), update_fields=WRITTEN)
    told = [(one.alert, one.verdict.tell) for one in judged if one.verdict.tell is not None]
    alert_notices.look_after(now=now)
    return alert_notices.write(told=told, now=now)


def _describe(one: _Judged, now: datetime) -> None:
    """Take over the verdict. Of one that is over, the last wrong value says more than none."""
    alert, standing = one.alert, one.verdict.standing
    if one.reading is not None and standing.state is not State.RESOLVED:
        alert.value, alert.limit = one.reading.value, one.reading.limit
        alert.summary = alert_text.summary(reading=one.reading)
    alert.take(standing)
    alert.severity, alert.checked_at = str(alert_rules.BY_NAME[alert.name].severity), now


def _lines(judged: Sequence[_Judged], readings: dict[Key, Reading], now: datetime) -> list[Line]:
    """Return what stands out, the worst first, and a line for each rule of which nothing does."""
    order = (State.FIRING, State.PENDING, State.RESOLVED)
    kept = [_line(one) for one in judged if _stands_out(one.verdict.standing, now)]
    out = sorted(kept, key=lambda line: order.index(line.state))
    named = {line.rule.name for line in out if line.state is not State.RESOLVED}
    return out + [_quiet_line(rule, readings) for rule in alert_rules.RULES if rule.name not in named]


def _stands_out(standing: Standing, now: datetime) -> bool:
    if standing.state is State.RESOLVED:
        return standing.resolved_at is not None and now - standing.resolved_at < RECENT
    return standing.state is not State.OK


def _line(one: _Judged) -> Line:
    name, workflow, tenant, subject = one.alert.key
    standing, reading = one.verdict.standing, one.reading
    return Line(
        rule=alert_rules.BY_NAME[name],
        state=standing.state,
        workflow=workflow,
        tenant=tenant,
        subject=subject,
        value=reading.value if reading else None,
        limit=reading.limit if reading else one.alert.limit,
        since=standing.resolved_at or standing.firing_since or standing.pending_since,
        summary=alert_text.summary(reading=reading) if reading else one.alert.summary,
        is_quiet=one.is_quiet,
        is_acknowledged=standing.acknowledged,
        told=one.verdict.tell,
    )


def _quiet_line(rule: alert_rules.Rule, readings: dict[Key, Reading]) -> Line:
    """Return the line of a rule that is all right, with the value that comes closest to its limit."""
    own = [one for one in readings.values() if one.name == rule.name]
    pick = min if rule.bound is alert_rules.Bound.BELOW else max
    worst = pick(own, key=lambda one: one.value) if own else None
    limit = worst.limit if worst else (alert_readings.limit_of(rule.name) if rule.setting or rule.limit else None)
    return Line(rule=rule, state=State.OK, value=worst.value if worst else None, limit=limit)
