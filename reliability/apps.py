"""The application's registration with Django."""

from django.apps import AppConfig


class ReliabilityConfig(AppConfig):
    name = "reliability"
    verbose_name = "Operations"

    def ready(self) -> None:
        from . import checks, engine  # noqa: F401  # registers the system checks
        from .pipeline import alert_retention, retention_rules

        engine.listen_well()
        engine.tell_figures()
        retention_rules.register()
        alert_retention.register()
