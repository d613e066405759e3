"""`manage.py stripe_endpoint SLUG`: create, change and list Stripe endpoints, and rotate their secrets."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.errors import BackstopError
from reliability.formats.counts import counted
from reliability.management.base import OperatorCommand
from reliability.models import StripeEndpoint, StripeMode
from reliability.stripe import endpoints


class Command(OperatorCommand):
    help = (
        "Create a Stripe endpoint (--create) or change it (--change), add a signing secret (--add-secret) or set an API"
        " key (--api-key) from standard input, retire a secret by its last four characters (--retire), and print the"
        " endpoint. Without SLUG, list the endpoints."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("slug", nargs="?", metavar="SLUG")
        made = parser.add_mutually_exclusive_group()
        made.add_argument("--create", action="store_true")
        made.add_argument("--change", action="store_true", help="set the options below; the others keep their values")
        parser.add_argument("--tenant", help="tenant of the endpoint's events")
        parser.add_argument("--mode", choices=StripeMode.values, help="which events are delivered: live, test or both")
        parser.add_argument("--account", help="the Stripe account (acct_…)")
        parser.add_argument("--turn", choices=["on", "off"], help="accept events, or refuse them")
        read = parser.add_mutually_exclusive_group()
        read.add_argument(
            "--add-secret", action="store_true", help="read a signing secret (whsec_…) from standard input"
        )
        read.add_argument(
            "--api-key",
            action="store_true",
            help="read a restricted API key from standard input; it replaces the current one",
        )
        parser.add_argument("--retire", metavar="HINT", help="the last four characters of the secret to retire")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["slug"]:
                self._act(options)
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        rows = StripeEndpoint.objects.prefetch_related("secrets")
        for one in rows.filter(slug=options["slug"]) if options["slug"] else rows:
            self.stdout.write(_line(one))

    def _act(self, options: dict[str, Any]) -> None:
        actor, now = self.actor(options), clock.now()
        values = _values(options)
        if values and not (options["create"] or options["change"]):
            raise CommandError("These options need --create or --change.")
        if options["create"]:
            endpoints.create(endpoint=StripeEndpoint(slug=options["slug"], **values), actor=actor, now=now)
        found = StripeEndpoint.objects.filter(slug=options["slug"]).first()
        if found is None:
            raise CommandError(f"No such Stripe endpoint: '{options['slug']}'. --create creates it.")
        if options["api_key"]:
            values = {**values, "api_key": self.standard_input().strip()}
        if (values and not options["create"]) or options["api_key"]:
            endpoints.change(endpoint_id=found.pk, values=values, actor=actor, now=now)
        if options["add_secret"]:
            endpoints.add_secret(endpoint_id=found.pk, secret=self.standard_input(), actor=actor, now=now)
        if options["retire"]:
            found_secrets = list(found.secrets.filter(active=True, hint=options["retire"]))
            if len(found_secrets) != 1:
                raise CommandError(
                    f"{counted(len(found_secrets), 'active secret')} found with the ending '{options['retire']}'."
                )
            endpoints.retire_secret(secret_id=found_secrets[0].pk, actor=actor, now=now)


def _values(options: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that the options give."""
    values = {name: options[name] for name in ("tenant", "mode", "account") if options[name] is not None}
    return values | ({"enabled": options["turn"] == "on"} if options["turn"] else {})


def _line(one: StripeEndpoint) -> str:
    secrets = ", ".join(f"…{secret.hint}" for secret in one.secrets.all() if secret.active) or "none"
    state = "" if one.enabled else "  (turned off)"
    return f"/stripe/webhook/{one.slug}/  tenant {one.tenant}  mode {one.mode}  active secrets: {secrets}{state}"
