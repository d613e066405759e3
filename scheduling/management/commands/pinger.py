"""`manage.py pinger`: ping due cron jobs until SIGINT or SIGTERM."""

import signal
from typing import Any

from django.core.management import BaseCommand

from reliability.checks import CONFIGURATION
from scheduling.pinger import Pinger


class Command(BaseCommand):
    help = "Ping due cron jobs until SIGINT or SIGTERM, instead of an external cron service. 'up' runs it."
    requires_system_checks = [CONFIGURATION]

    def handle(self, *args: Any, **options: Any) -> None:
        pinger = Pinger()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: pinger.stop())
        pinger.run()
