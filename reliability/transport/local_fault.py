"""A fault of Backstop's own setup, which keeps a request from being sent."""

from reliability.policies.error_codes import ErrorCode


class LocalFault(ValueError):
    """The request cannot be sent with this setup. The message names the setting, `code` what is wrong."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
