"""System checks: a configuration that makes no sense stops the start, and names itself."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def environment(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """Report every variable that could not be read or makes no sense."""
    return [
        Error(f"{name}: {message}", hint=f"Correct the environment variable {name}.", id="backstop.E001")
        for name, message in settings.CONFIGURATION_PROBLEMS
    ]
