"""Writes a request to n8n as a curl command, for repeating it by hand. Secrets are replaced by placeholders."""

import shlex

from reliability.models import DeadLetter, Delivery
from reliability.transport.client import USER_AGENT

SECRET, SIGNATURE, TIME = "<SECRET>", "v1,<SIGNATURE>", "<SECONDS SINCE 1970>"  # placeholders
FILE = "payload.json"
# Characters. A longer payload does not fit into a command line that can still be read and pasted.
INLINE = 32 * 1024


def command(*, letter: DeadLetter, last: Delivery | None, payload: str | None) -> str:
    """Return the last request for a dead letter, or the one that a replay would send.

    `payload` is the whole JSON text; if it is `None` (longer than `INLINE`), the command reads the file `FILE`.
    """
    workflow = letter.lane.workflow
    headers = {"Content-Type": "application/json", "Accept": "*/*", "User-Agent": USER_AGENT} | _backstop_headers(
        letter, last
    )
    headers |= dict.fromkeys(workflow.authentication, SECRET)
    if workflow.signing_secret:
        name = headers["X-Backstop-Delivery"]
        headers |= {"webhook-id": name, "webhook-timestamp": TIME, "webhook-signature": SIGNATURE}
    lines = [f"curl -X POST {shlex.quote(workflow.url)}"]
    lines += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    lines.append(f"--data-binary {shlex.quote(payload if payload is not None else '@' + FILE)}")
    return " \\\n  ".join(lines)


def _backstop_headers(letter: DeadLetter, last: Delivery | None) -> dict[str, str]:
    headers = {
        "Idempotency-Key": last.idempotency_key if last else str(letter.pk),
        "X-Backstop-Delivery": str(last.pk) if last else "<DELIVERY>",
        "X-Backstop-Attempt": str(max(1, last.attempt_count)) if last else "1",
        "X-Backstop-Tenant": letter.lane.tenant,
    }
    return headers | ({"X-Backstop-Stale": "true"} if last and last.stale else {})
