"""The application's registration with Django."""

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate

# The function of each of the worker's tasks. They are dotted paths because `queue` may not import higher packages, and
# because web processes never need them: a worker imports one with its first job.
HANDLERS = {
    "dispatch": "reliability.delivery.dispatcher.process_lane",
    "operate": "reliability.bulk.steps.run",
    "look_up": "reliability.n8n.delivery_lookup.look_up",
    "retry_execution": "reliability.n8n.execution_retry.process",
    "notice_channel": "reliability.alerts.notices.channel_of",
    "tell": "reliability.alerts.notices.send",
}


class ReliabilityConfig(AppConfig):
    name = "reliability"
    verbose_name = "Operations"

    def ready(self) -> None:
        from . import checks, queue  # noqa: F401  # registers the system checks
        from .lanes import flags
        from .retention import alert_rules as alert_retention
        from .retention import rules

        queue.install()
        for task, path in HANDLERS.items():
            queue.register(task=task, path=path)
        rules.register()
        post_migrate.connect(flags.create_missing, sender=self)
        alert_retention.register()
        if settings.TRACES:
            from config import tracing  # few installations trace, and its imports take memory

            tracing.install(exporter=settings.TRACES)
