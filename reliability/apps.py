"""The application's registration with Django."""

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate


class ReliabilityConfig(AppConfig):
    name = "reliability"
    verbose_name = "Operations"

    def ready(self) -> None:
        from . import checks, queue  # noqa: F401  # registers the system checks
        from .lanes import flags
        from .retention import alert_rules as alert_retention
        from .retention import rules

        queue.install()
        rules.register()
        post_migrate.connect(flags.complete, sender=self)
        alert_retention.register()
        if settings.TRACES:
            from config import tracing  # what it imports takes memory, and is wanted by few

            tracing.install(exporter=settings.TRACES)
