"""How a retry by n8n ends for the dead letter that it was to bring back: recovered, or the same entry again."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q

from reliability.models import DeadLetter, DeadLetterStatus, ExecutionRetry, FailureReport, RetryState, error_fields

OPEN = Q(state__in=(RetryState.PENDING, RetryState.ASKED))


def failed_again(*, letter: DeadLetter, report: FailureReport, now: datetime) -> None:
    """Put a dead letter back whose retry failed, by whoever's hand that retry was.

    A letter that is being replayed by a delivery is left to that delivery's end.
    """
    retry = ExecutionRetry.objects.filter(OPEN, dead_letter=letter, execution_id=report.retry_of).first()
    if retry is not None:
        end(retry=retry, succeeded=False, new_execution_id=report.execution_id, error=report.error_message, now=now)
    _put_back(letter, report.execution_id, report.error_message, now, url=report.execution_url)


def end(*, retry: ExecutionRetry, succeeded: bool, now: datetime, new_execution_id: str = "", error: str = "") -> bool:
    """Settle a retry and its letter, in the caller's transaction; return whether it was still open."""
    values = {
        "state": RetryState.SUCCEEDED if succeeded else RetryState.FAILED,
        "new_execution_id": new_execution_id,
        "error": error,
        "finished_at": now,
    }
    if not ExecutionRetry.objects.filter(OPEN, pk=retry.pk).update(**values):
        return False
    letters = DeadLetter.objects.filter(pk=retry.dead_letter_id, status=DeadLetterStatus.REPLAYING)
    if succeeded:
        letters.update(status=DeadLetterStatus.RECOVERED, closed_at=now)
    else:
        said = error_fields(code=retry.dead_letter.error_code, message=error)
        letters.update(**_dead(now, retry.dead_letter.retry_count + 1), **said)
        if new_execution_id:
            _put_back(retry.dead_letter, new_execution_id, error, now)
    return True


def _put_back(letter: DeadLetter, execution_id: str, error: str, now: datetime, *, url: str = "") -> None:
    """Let a dead letter say what failed last, and under which execution it can be retried now."""
    values = error_fields(code=letter.error_code, message=error)
    if execution_id:
        values |= {"execution_id": execution_id, "execution_url": url or _moved(letter, execution_id)}
    DeadLetter.objects.dead().filter(pk=letter.pk).update(**values)


def _moved(letter: DeadLetter, execution_id: str) -> str:
    """Return the address of another execution of the same workflow: n8n's addresses end in the execution's id."""
    start, _, old = letter.execution_url.rpartition("/")
    return f"{start}/{execution_id}" if start and old == letter.execution_id else letter.execution_url


def _dead(now: datetime, retry_count: int) -> dict[str, object]:
    return {
        "status": DeadLetterStatus.DEAD,
        "died_at": now,
        "expires_at": now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS),
        "closed_at": None,
        "retry_count": retry_count,
    }
