"""Faults of Backstop's own settings that keep a request from being sent."""

from reliability.policies.error_codes import ErrorCode


class LocalFault(ValueError):
    """The request cannot be sent with these settings. The message names the setting; `code` says what is wrong."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
