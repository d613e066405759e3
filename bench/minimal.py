"""What ours is compared with: the least that does the same job on the same server."""

import hmac
import json
import os
from hashlib import sha256

from .ground import CRON_SECRET, STRIPE_SECRET

_ANSWER = b'{"ok": true, "message": "cron reachable"}'
_HEADERS = [
    ("Content-Type", "application/json"),
    ("Content-Length", str(len(_ANSWER))),
    ("Cache-Control", "no-store"),
]


_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(name.encode(), value.encode()) for name, value in _HEADERS],
}
_BODY = {"type": "http.response.body", "body": _ANSWER}


async def bare(scope, receive, send):
    """Answer the light endpoint's bytes, whoever asks."""
    await send(_START)
    await send(_BODY)


def django_application():
    """A Django project of one view: a hashed key checked, one row inserted, one commit."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "bench.minimal_settings"
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def insert(request):
    from django.db import connection
    from django.http import HttpResponse

    plain = request.headers["Authorization"].removeprefix("Bearer ")
    body = json.loads(request.body)
    with connection.cursor() as cursor:
        cursor.execute("SELECT hash FROM bench_key WHERE prefix = %s", [plain[:12]])
        (kept,) = cursor.fetchone()
        if not hmac.compare_digest(kept, sha256(plain.encode()).hexdigest()):
            return HttpResponse(status=401)
        cursor.execute(
            "INSERT INTO bench_row (workflow, payload) VALUES (%s, %s) RETURNING id",
            [body["workflow"], json.dumps(body["payload"])],
        )
        (pk,) = cursor.fetchone()
    return HttpResponse(json.dumps({"id": pk}), content_type="application/json", status=201)


def stripe_event(request):
    import stripe
    from django.db import connection, transaction
    from django.http import HttpResponse

    event = stripe.Webhook.construct_event(request.body, request.headers["Stripe-Signature"], STRIPE_SECRET)
    text = request.body.decode()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_event (id, type, payload) VALUES (%s, %s, %s)", [event.id, event.type, text])
        cursor.execute("INSERT INTO bench_work (event, payload) VALUES (%s, %s)", [event.id, text])
    return HttpResponse(b'{"received": true}', content_type="application/json")


def ready(_request):
    from django.http import HttpResponse

    return HttpResponse("ok")


def urls():
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    return [path("insert/", csrf_exempt(insert)), path("stripe/", csrf_exempt(stripe_event)), path("readyz", ready)]


def __getattr__(name):
    if name == "application":
        return django_application()
    if name == "urlpatterns":
        return urls()
    raise AttributeError(name)


__all__ = ["CRON_SECRET", "bare"]
