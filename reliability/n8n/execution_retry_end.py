"""The end of an execution retry: its dead letter is recovered, or dead again."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q

from reliability.models import DeadLetter, DeadLetterStatus, ExecutionRetry, FailureReport, RetryState, error_fields

OPEN = Q(state__in=(RetryState.PENDING, RetryState.ASKED))


def record_failure(*, letter: DeadLetter, report: FailureReport, now: datetime) -> None:
    """Record on a dead letter that a retry of its execution failed, whether Backstop or a person requested it.

    A dead letter that a delivery replays stays as it is: that delivery decides.
    """
    retry = ExecutionRetry.objects.filter(OPEN, dead_letter=letter, execution_id=report.retry_of).first()
    if retry is not None:
        finish(retry=retry, succeeded=False, new_execution_id=report.execution_id, error=report.error_message, now=now)
    _update_failure(letter, report.execution_id, report.error_message, now, url=report.execution_url)


def finish(
    *, retry: ExecutionRetry, succeeded: bool, now: datetime, new_execution_id: str = "", error: str = ""
) -> bool:
    """Finish a retry and its dead letter in the caller's transaction; return whether the retry was still open."""
    values = {
        "state": RetryState.SUCCEEDED if succeeded else RetryState.FAILED,
        "new_execution_id": new_execution_id,
        "error": error,
        "finished_at": now,
    }
    # The row count decides between n8n's answer and n8n's failure report of the same retry.
    if not ExecutionRetry.objects.filter(OPEN, pk=retry.pk).update(**values):
        return False
    replaying = DeadLetter.objects.filter(pk=retry.dead_letter_id, status=DeadLetterStatus.REPLAYING)
    if succeeded:
        replaying.update(status=DeadLetterStatus.RECOVERED, closed_at=now)
    else:
        failure = error_fields(code=retry.dead_letter.error_code, message=error)
        replaying.update(**_dead_values(now, retry.dead_letter.retry_count + 1), **failure)
        if new_execution_id:
            _update_failure(retry.dead_letter, new_execution_id, error, now)
    return True


def _update_failure(letter: DeadLetter, execution_id: str, error: str, now: datetime, *, url: str = "") -> None:
    """Set a dead letter's error to the last failure, and its execution to the one that can be retried next."""
    values = error_fields(code=letter.error_code, message=error)
    if execution_id:
        values |= {"execution_id": execution_id, "execution_url": url or _execution_url(letter, execution_id)}
    DeadLetter.objects.dead().filter(pk=letter.pk).update(**values)


def _execution_url(letter: DeadLetter, execution_id: str) -> str:
    """Return the URL of another execution of the same workflow: n8n's URLs end in the execution's id."""
    start, _, old = letter.execution_url.rpartition("/")
    return f"{start}/{execution_id}" if start and old == letter.execution_id else letter.execution_url


def _dead_values(now: datetime, retry_count: int) -> dict[str, object]:
    return {
        "status": DeadLetterStatus.DEAD,
        "died_at": now,
        "expires_at": now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS),
        "closed_at": None,
        "retry_count": retry_count,
    }
