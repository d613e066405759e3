"""The replay of one dead letter, by webhook or by n8n's retry of its execution."""

from datetime import datetime
from uuid import UUID

from django.db import models

from reliability.core.audit import Actor
from reliability.dead_letters import replay
from reliability.errors import InvalidInput
from reliability.models import DeadLetter, DeadLetterSource
from reliability.n8n import execution_retry


class Via(models.TextChoices):
    """How a dead letter is replayed: by a new delivery to the webhook, or by n8n's retry of its execution."""

    WEBHOOK = "webhook"
    EXECUTION = "execution"


def replay_one(  # what a person may say of a replay
    *,
    dead_letter_id: UUID,
    actor: Actor,
    now: datetime,
    payload: str | None = None,
    via: str = "",
    load_workflow: bool = True,
) -> tuple[UUID | None, UUID]:
    """Replay a dead letter by `via`, or else in the way that its source allows.

    Returns the id of the new delivery (`None` if n8n retries the execution), and the id of the replay: that of the
    delivery or of the execution retry. Raises as `dead_letters.replay` and `execution_retry.begin` do, and
    `InvalidInput` for a payload with an execution retry, which uses the execution's own data.
    """
    if not via:
        reported = DeadLetter.objects.filter(pk=dead_letter_id, source=DeadLetterSource.N8N).exists()
        via = Via.EXECUTION if reported else Via.WEBHOOK
    if via == Via.WEBHOOK:
        done = replay.replay(dead_letter_id=dead_letter_id, actor=actor, now=now, payload=payload)
        return done.delivery_id, done.delivery_id
    if payload is not None:
        text = "n8n retries an execution with its own data: an edited payload goes to the webhook only."
        raise InvalidInput(text, errors={"payload": [text]})
    retry = execution_retry.begin(dead_letter_id=dead_letter_id, actor=actor, now=now, load_workflow=load_workflow)
    return None, retry.pk
