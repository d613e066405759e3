"""How long alerts that are over, quiet periods and notices are kept: `ALERT_RETENTION_DAYS`. A waiting notice stays."""

from . import runner

AGE = runner.days("ALERT_RETENTION_DAYS")
NOTICES = runner.pruning(
    name="alert_notices",
    what="notices of alerts deleted",
    age=AGE,
    table="reliability_alertnotice",
    where="id < %(id)s AND created_at < %(cutoff)s AND state <> 'waiting'",
)
ALERTS = runner.pruning(
    name="alerts",
    what="alerts that are over deleted",
    age=AGE,
    table="reliability_alert",
    where="state = 'resolved' AND resolved_at < %(cutoff)s",
)
SILENCES = runner.pruning(
    name="alert_silences",
    what="quiet periods that are over deleted",
    age=AGE,
    table="reliability_alertsilence",
    where="until < %(cutoff)s",
    order="until",
)


def register() -> None:
    """Add the rules to those that clean-up applies."""
    for rule in (NOTICES, ALERTS, SILENCES):
        runner.register(rule=rule)
