"""What can be wrong with what a caller asks, as one small hierarchy. A class's docstring is its default message."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

FieldErrors = Mapping[str, Sequence[str]]


class BackstopError(Exception):
    """Something went wrong."""

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
    """The request names a workflow that does not exist."""

    code = "unknown_workflow"


class Unauthenticated(BackstopError):
    """A valid API key is needed."""

    status = 401
    code = "unauthenticated"


class Forbidden(BackstopError):
    """The key does not allow this."""

    status = 403
    code = "forbidden"


class NotFound(BackstopError):
    """There is nothing here."""

    status = 404
    code = "not_found"


class Conflict(BackstopError):
    """The state of the resource does not allow this."""

    status = 409
    code = "conflict"


class IdempotencyConflict(Conflict):
    """The idempotency key was used with another payload."""

    code = "idempotency_conflict"


class IdempotencyExpired(Conflict):
    """The idempotency key was used, and what was made under it has been cleaned up since: use a new key."""

    code = "idempotency_expired"


class IdempotencyNotSupported(InvalidInput):
    """This call does not take an Idempotency-Key, so a repeat would act again: send it without one."""

    code = "idempotency_not_supported"


class NotCancellable(Conflict):
    """The delivery can no longer be changed."""

    code = "not_cancellable"


class ClaimHeld(Conflict):
    """Another is processing the event."""

    code = "claim_held"


class NotReplayable(Conflict):
    """The dead letter is not dead any more."""

    code = "not_replayable"


class SignatureRefused(InvalidInput):
    """The signature is not Stripe's, or not of now."""

    code = "signature"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class UnknownEndpoint(NotFound):
    """There is no such Stripe endpoint."""

    code = "unknown_endpoint"


class PayloadTooLarge(BackstopError):
    """The body is too large."""

    status = 413
    code = "too_large"


class EncodedBody(BackstopError):
    """The body has a Content-Encoding, which Backstop does not decode: send it as it is."""

    status = 415
    code = "encoded_body"


class Unavailable(BackstopError):
    """Not now: try again later."""

    status = 503
    code = "unavailable"
    retry_after = timedelta(seconds=30)


class LimitReached(BackstopError):
    """The limit is reached: try again later."""

    status = 429
    code = "limit_reached"
    retry_after = timedelta(seconds=5)


class ConfigurationError(BackstopError):
    """A setting makes no sense."""

    code = "configuration"


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
