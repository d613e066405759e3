"""The application's registration with Django."""

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    name = "scheduling"
    verbose_name = "Scheduling"

    def ready(self) -> None:
        from reliability.alerts import readings as alert_readings
        from reliability.management import demo_parts
        from reliability.stats import overview, status

        from . import alerting, doctor, health, housekeeping, metrics

        housekeeping.register()
        demo_parts.register(module="scheduling.demo")
        doctor.register()
        metrics.register()
        alert_readings.register(source=alerting.read, names=alerting.NAMES)
        status.SECTIONS["cron_jobs"] = lambda now, tenant: health.summary(now=now, tenant=tenant)
        overview.register_cron(source=health.attention)
