"""What stands in the documents for what only a reader knows, and what the tests put in its place."""

import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from ..support.receiver import until
from .running import STRIPE_SECRET, System


def address(system: System) -> str:
    return system.url


def n8n(system: System) -> str:
    return system.receiver.url.removesuffix("/webhook")


def dead_letter(system: System) -> str:
    """Make a dead letter; return its id."""
    body = {"workflow": "notify-gap-fill", "payload": {"n": time.time()}, "error_message": "made for the documents"}
    return system.call("POST", "/api/v1/dead-letters/", body).json()["id"]


def waiting_delivery(system: System) -> str:
    """Make a delivery that is not sent yet; return its id."""
    later = {"payload": {"n": time.time()}, "deliver_at": "2099-01-01T00:00:00Z"}
    return system.call("POST", "/api/v1/deliveries/", {"workflow": "notify-gap-fill", **later}).json()["id"]


def delivered(system: System) -> str:
    """Make a delivery and wait until it is delivered; return its id."""
    body = {"workflow": "client-onboarding", "payload": {"n": time.time()}}
    made = system.call("POST", "/api/v1/deliveries/", body).json()["id"]
    path = f"/api/v1/deliveries/{made}/"
    until(lambda: system.call("GET", path).json()["state"] == "delivered", within=60, what="a delivery")
    return made


def claim(system: System) -> str:
    """Claim an event; return the claim's id. Its token is 1."""
    body = {"event_id": f"evt_{time.time_ns()}", "workflow": "stripe-guarded"}
    return system.call("POST", "/api/v1/stripe-events/claim/", body).json()["id"]


def slot(system: System) -> str:
    return system.call("POST", "/api/v1/slots/", {"workflow": "client-onboarding"}).json()["id"]


def breaker(system: System) -> str:
    return system.call("GET", "/api/v1/breakers/").json()["results"][0]["id"]


def operation(system: System) -> str:
    """Begin a bulk replay that takes long enough to have a hand on; return its id."""
    for _ in range(3):
        dead_letter(system)
    body = {"filter": {"workflow": "notify-gap-fill"}, "rate_per_second": 0.1}
    return system.call("POST", "/api/v1/dead-letters/replay/", body).json()["id"]


def purge(system: System) -> str:
    """Purge in bulk, and wait for its end; return its id."""
    dead_letter(system)
    made = system.call("POST", "/api/v1/dead-letters/purge/", {"filter": {"workflow": "notify-gap-fill"}}).json()["id"]
    path = f"/api/v1/batches/{made}/"
    until(lambda: system.call("GET", path).json()["state"] == "done", within=60, what="a purge")
    return made


def key_beginning(system: System) -> str:
    """Make a key; return its beginning, as the console lists it."""
    return system.run("create_api_key", "--name", "old").strip().splitlines()[-1][:12]


def restored(system: System) -> str:
    """Return the address of a database that a page may make from a backup."""
    return urlunsplit(urlsplit(system.environment["DATABASE_URL"])._replace(path="/" + system.restored))


def firing_alert(system: System) -> str:
    """Have a breaker open for long enough that its alert fires; return the alert's name."""
    system.receiver.always(403, headers={"Connection": "close"})
    system.call("POST", "/api/v1/deliveries/", {"workflow": "billing", "payload": {"n": time.time()}})
    until(lambda: '"open"' in system.call("GET", "/api/v1/breakers/").text, within=60, what="an open breaker")
    system.run("check_alerts")
    system.execute("UPDATE reliability_alert SET pending_since = pending_since - interval '1 hour'", keep=True)
    system.run("check_alerts")
    return "BreakerOpen"


def open_breaker(system: System) -> str:
    """Have a breaker that is not closed; return its workflow."""
    system.run("force_open_breaker", "--workflow", "notify-gap-fill", "--reason", "for the documents")
    return "notify-gap-fill"


def archive(system: System) -> str:
    """Have a dead letter go to an archive of its own; return the archive's name."""
    before = archives(system)
    system.archived = dead_letter(system)
    system.execute("UPDATE reliability_deadletter SET expires_at = now() WHERE status = 'dead'", keep=True)
    system.run("cleanup")
    return next(iter(archives(system) - before))


def archives(system: System) -> set[str]:
    return {line.split()[0] for line in system.run("restore_archive", "--list").splitlines()[1:] if line.strip()}


Maker = Callable[[System], str]

# In this order, everywhere.
EVERYWHERE: list[tuple[str, Maker]] = [
    (r"https?://127\.0\.0\.1:8000|https://backstop\.example\.com", address),
    (r"127\.0\.0\.1:8000|backstop\.example\.com", lambda system: system.url.removeprefix("http://")),
    (r"https://n8n\.example\.com|http://127\.0\.0\.1:5678", n8n),
    (r"(?<=stand_in\.py )5678\b", lambda system: str(system.receiver.port)),
    (r"\{\{ backstop_url \}\}", lambda system: ""),
    (r"\{\{ \$execution\.id \}\}", lambda system: str(time.time_ns())),
    (r"\{\{ \$\('Webhook'\)\.first\(\)\.json\.headers\['x-backstop-delivery'\] \}\}", delivered),
    (r"postgresql://backstop:password@db\.example\.com/backstop_restored", restored),
    (r"\bbackstop_restored\b", lambda system: system.restored),
    (r"\bPREFIX\b", key_beginning),
    (r"(?<==)…(?=\s|$)", lambda system: "a-value"),
    (r"bsk_…", lambda system: system.key),
    (r"whsec_…", lambda system: STRIPE_SECRET),
    (r"evt_…", lambda system: f"evt_{time.time_ns()}"),
]
# By what is asked for: an id (`ID` in a command, `<id>` in an address), or a name of which something has to be so.
IDS: list[tuple[str, Maker]] = [
    (r"((?:replay|purge) )ID\b", dead_letter),
    (r"((?:send_now|manage\.py cancel) )ID\b", waiting_delivery),
    (r"(batches undo )ID\b", purge),
    (r"(batches \w+ )ID\b", operation),
    (r"(acknowledge_alert )BreakerOpen\b", firing_alert),
    (r"(restore_archive )NAME\b", archive),
    (r"(--letter )ID\b", lambda system: system.archived),
    (r"(reset_breaker --workflow )notify-gap-fill\b", open_breaker),
    (r"(/dead-letters/)<id>", dead_letter),
    (r"(/deliveries/)<id>(?=/cancel/|/send-now/)", waiting_delivery),
    (r"(/deliveries/)<id>", delivered),
    (r"(/stripe-events/)<id>", claim),
    (r"(/slots/)<id>", slot),
    (r"(/breakers/)<id>", breaker),
    (r"(/batches/)<id>(?=/undo/)", purge),
    (r"(/batches/)<id>", operation),
]


def filled(text: str, *, system: System) -> str:
    """Return a text with every placeholder replaced."""
    for pattern, make in EVERYWHERE:
        text = re.sub(pattern, lambda _, make=make: make(system), text)
    for pattern, make in IDS:
        text = re.sub(pattern, lambda found, make=make: found[1] + make(system), text)
    return text
