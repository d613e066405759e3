"""Faults of Backstop's own settings that keep a request from being sent."""


class LocalFault(ValueError):
    """The request cannot be sent with these settings. The message names the setting; `code` says what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
