"""The channels of notices: mail, a Slack-compatible webhook, and an n8n workflow."""

import json
import smtplib
from collections.abc import Callable, Sequence
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage

from reliability.core import clock, known_secrets
from reliability.delivery import intake
from reliability.delivery.intake import Trigger
from reliability.errors import BackstopError
from reliability.models import DEFAULT_TENANT, AlertChannel, AlertNotice, digest_of
from reliability.policies import alert_text
from reliability.policies.alert_text import Change
from reliability.policies.classification import Failure
from reliability.transport import client as transport


class NotSent(BackstopError):
    """The channel did not accept the notice."""

    code = "not_sent"


def configured() -> list[str]:
    """Return the channels that the environment configures."""
    destinations = {
        AlertChannel.MAIL: settings.ALERT_EMAILS,
        AlertChannel.WEBHOOK: settings.ALERT_WEBHOOK_URL,
        AlertChannel.WORKFLOW: settings.ALERT_WORKFLOW,
    }
    return [str(channel) for channel, where in destinations.items() if where]


def send(*, notice: AlertNotice) -> UUID | None:
    """Send a notice; return its delivery, if the channel is a workflow. Raises `NotSent`; its text has no secrets."""
    return SENDERS[notice.channel](notice, [Change(**one) for one in notice.changes])


def _mail(notice: AlertNotice, changes: Sequence[Change]) -> None:
    """Send one mail to all. A repeat has the same `Message-ID`, so that mailboxes can recognise it."""
    message = EmailMessage(
        subject=alert_text.title(changes=changes, label=_label()),
        body=alert_text.body(changes=changes),
        to=settings.ALERT_EMAILS,
        headers={"Message-ID": f"<{notice.pk}@backstop>", "Auto-Submitted": "auto-generated"},
    )
    try:
        message.send()
    except smtplib.SMTPResponseException as error:
        raise NotSent(f"The mail server answered with the code {error.smtp_code}.") from None
    except smtplib.SMTPRecipientsRefused:
        raise NotSent("The mail server refused every recipient.") from None
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(f"The mail server cannot be used: {_text_of(error)}.") from None


def _webhook(notice: AlertNotice, changes: Sequence[Change]) -> None:
    answer = transport.call(
        method="POST",
        url=settings.ALERT_WEBHOOK_URL,
        headers={"Idempotency-Key": str(notice.pk)},
        timeout=settings.ALERT_TIMEOUT_SECONDS,
        document={"text": alert_text.slack(changes=changes, label=_label())},
        limit=transport.BODY_LIMIT,
        names=transport.Names("ALERT_WEBHOOK_URL", "ALERT_WEBHOOK_URL"),
    )
    if answer.failure is Failure.LOCAL_FAULT:
        raise NotSent(f"The webhook cannot be used: {answer.detail}")  # our own text, without secrets
    if answer.reply is None:
        raise NotSent(f"The webhook cannot be reached: {answer.failure}.")  # the detail may hold the secret URL
    if not 200 <= answer.reply.status < 300:
        raise NotSent(f"The webhook answered HTTP {answer.reply.status}.")


def _workflow(notice: AlertNotice, changes: Sequence[Change]) -> UUID:
    """Accept it as a delivery; its idempotency key makes retries of this call safe."""
    document = {
        "notice": str(notice.pk),
        "title": alert_text.title(changes=changes, label=_label()),
        "text": alert_text.body(changes=changes),
        "changes": [one.document for one in changes],
    }
    trigger = Trigger(
        workflow=settings.ALERT_WORKFLOW,
        tenant=DEFAULT_TENANT,
        payload=json.dumps(document, ensure_ascii=False),
        digest=digest_of(document),
        idempotency_key=f"alert:{notice.pk}",
    )
    try:
        return intake.accept(triggers=[trigger], now=clock.now())[0].delivery.pk
    except BackstopError as error:
        messages = [*error.errors.get("workflow", []), error.detail]
        raise NotSent(f"The workflow cannot be used: {messages[0]}") from None


def _label() -> str:
    return f"Backstop {settings.ENVIRONMENT_NAME}".strip()


def _text_of(error: OSError | smtplib.SMTPException) -> str:
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return known_secrets.redactor().text(text) or type(error).__name__


SENDERS: dict[str, Callable[[AlertNotice, Sequence[Change]], UUID | None]] = {
    AlertChannel.MAIL: _mail,
    AlertChannel.WEBHOOK: _webhook,
    AlertChannel.WORKFLOW: _workflow,
}
