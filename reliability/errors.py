"""Exceptions that an interface turns into an answer. The first line of a class's docstring is its default message."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

FieldErrors = Mapping[str, Sequence[str]]


class BackstopError(Exception):
    """Internal error."""

    status = 500
    code = "error"
    retry_after: timedelta | None = None

    def __init__(
        self, detail: str = "", *, errors: FieldErrors | None = None, retry_after: timedelta | None = None
    ) -> None:
        if retry_after is not None:
            self.retry_after = retry_after
        self.detail = detail or _first_line(type(self).__doc__)
        self.errors = {name: list(messages) for name, messages in (errors or {}).items()}
        super().__init__(self.detail)


class InvalidInput(BackstopError):
    """The request is not valid."""

    status = 400
    code = "invalid"


class UnknownWorkflow(InvalidInput):
    """No such workflow. Create it first: import its policy, or add it in the console."""

    code = "unknown_workflow"


class Forbidden(BackstopError):
    """This API key does not allow the request."""

    status = 403
    code = "forbidden"


class NotFound(BackstopError):
    """Not found."""

    status = 404
    code = "not_found"


class Conflict(BackstopError):
    """The current state does not allow this action."""

    status = 409
    code = "conflict"


class IdempotencyConflict(Conflict):
    """The idempotency key was used with another payload. Use a new key for new work."""

    code = "idempotency_conflict"


class IdempotencyExpired(Conflict):
    """The idempotency key was used before, and its result is deleted. Use a new key."""

    code = "idempotency_expired"


class IdempotencyNotSupported(InvalidInput):
    """This call does not support Idempotency-Key. Send it without the header."""

    code = "idempotency_not_supported"


class NotCancellable(Conflict):
    """This delivery can no longer be changed."""

    code = "not_cancellable"


class ClaimHeld(Conflict):
    """Another worker is processing this event. Try again later."""

    code = "claim_held"


class NotReplayable(Conflict):
    """This dead letter no longer has the status dead."""

    code = "not_replayable"


class SignatureRefused(InvalidInput):
    """The Stripe signature is invalid, or its timestamp is out of tolerance."""

    code = "signature"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class UnknownEndpoint(NotFound):
    """No such Stripe endpoint."""

    code = "unknown_endpoint"


class PayloadTooLarge(BackstopError):
    """The body is too large."""

    status = 413
    code = "too_large"


class EncodedBody(BackstopError):
    """Backstop does not accept a Content-Encoding. Send the body uncompressed."""

    status = 415
    code = "encoded_body"


class Unavailable(BackstopError):
    """Temporarily unavailable. Try again later."""

    status = 503
    code = "unavailable"
    retry_after = timedelta(seconds=30)


class LimitReached(BackstopError):
    """The limit is reached. Try again later."""

    status = 429
    code = "limit_reached"
    retry_after = timedelta(seconds=5)


class ConfigurationError(BackstopError):
    """A setting is invalid."""

    code = "configuration"


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
