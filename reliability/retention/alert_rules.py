"""Retention of resolved alerts, silences and notices: `ALERT_RETENTION_DAYS`. Notices that wait to be sent are kept."""

from . import runner

AGE = runner.days("ALERT_RETENTION_DAYS")
NOTICES = runner.delete_rule(
    name="alert_notices",
    what="notices of alerts deleted",
    age=AGE,
    table="reliability_alertnotice",
    where="id < %(id)s AND created_at < %(cutoff)s AND state <> 'waiting'",
)
ALERTS = runner.delete_rule(
    name="alerts",
    what="resolved alerts deleted",
    age=AGE,
    table="reliability_alert",
    where="state = 'resolved' AND resolved_at < %(cutoff)s",
)
SILENCES = runner.delete_rule(
    name="alert_silences",
    what="ended silences deleted",
    age=AGE,
    table="reliability_alertsilence",
    where="until < %(cutoff)s",
    order="until",
)


def register() -> None:
    """Register the rules with clean-up."""
    for rule in (NOTICES, ALERTS, SILENCES):
        runner.register(rule=rule)
