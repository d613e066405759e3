"""`manage.py pinger`: ping the cron jobs that are due, until it is told to stop."""

import signal
from typing import Any

from django.core.management import BaseCommand

from reliability.checks import CONFIGURATION
from scheduling.pinger import Pinger


class Command(BaseCommand):
    help = "Ping the cron jobs that are due, in an external cron's place, until SIGINT or SIGTERM. 'up' runs it."
    requires_system_checks = [CONFIGURATION]

    def handle(self, *args: Any, **options: Any) -> None:
        pinger = Pinger()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: pinger.stop())
        pinger.run()
