"""The application's registration with Django."""

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    name = "scheduling"
    verbose_name = "Scheduling"

    def ready(self) -> None:
        from reliability.api import status
        from reliability.pipeline import overview

        from . import demo, health, housekeeping, metrics

        housekeeping.register()
        demo.register()
        metrics.register()
        status.SECTIONS["cron_jobs"] = lambda now, tenant: health.summary(now=now, tenant=tenant)
        overview.on_cron(timetable=health.attention)
