"""Switches, by which operators turn parts of the service off and on while it runs."""

from django.db import models


class FlagName(models.TextChoices):
    """The parts that can be switched off. Single cron jobs are enabled and disabled on their own."""

    SCHEDULING = "scheduling", "Cron jobs: pings are answered with 503"
    DISPATCH = "dispatch", "Dispatch: deliveries wait"
    STRIPE = "stripe", "Stripe webhooks: answered with 503, so that Stripe sends them again later"


class Flag(models.Model):
    """A part of the service, and whether it is on. A missing row means on; `migrate` creates missing rows."""

    name = models.TextField(primary_key=True, choices=FlagName.choices)
    enabled = models.BooleanField(default=True)
    reason = models.TextField(blank=True, default="")
    changed_at = models.DateTimeField(null=True, blank=True)
    changed_by = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("name",)
        verbose_name = "switch"
        verbose_name_plural = "switches"
        permissions = [("switch_flag", "Can switch parts of the service off and on")]

    def __str__(self) -> str:
        return f"{self.name}: {'on' if self.enabled else 'off'}"
