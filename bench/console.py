"""The console's pages over 1,000,000 dead letters and 5,000,000 attempts: time, queries, memory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import requests

from . import ground

LETTERS, ATTEMPTS_EACH = 1_000_000, 5
WORKFLOWS, TENANTS, DAYS = 20, 3, 7
TIMES = 20
USER, PASSWORD = "bench", "a-password-of-the-benchmark"
# Code, and an error in which only the number differs.
ERRORS = [
    *(
        ("http_500", f"{what} of client %s failed in node {n}")
        for n, what in enumerate(("Import", "Export", "Invoice"))
    ),
    *(("http_503", f"{what} is overloaded, try %s later") for what in ("Mailer", "Database", "Search", "Ledger")),
    *(("http_422", f"Field {name} of order %s is missing") for name in ("name", "address", "country", "mail")),
    *(("read_timeout", "No answer within %s ms"), ("connection_refused", "Connection refused by 10.0.0.4:%s")),
    *(("outcome_unknown", "Nobody knows about %s"), ("expired", "It outlived its expiry by %s s")),
]

LETTER = """
INSERT INTO {table} SELECT {columns} FROM (
    SELECT n, at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000{kind}' ||
        lpad(to_hex(n), 15, '0'))::uuid AS id,
        (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid
        AS delivery, (%(lanes)s::int[])[1 + n %% %(lane_count)s] AS lane, 1 + (n / 7) %% %(kinds)s AS kind
    FROM (SELECT n, now() - (%(count)s - n) * (interval '1 day' * %(days)s / %(count)s) AS at
        FROM generate_series(1, %(count)s) AS n) AS numbered
) AS t
"""
PAYLOAD = """'{"order": ' || n || ', "text": "' || repeat('x', 300) || '"}'"""
DELIVERIES = LETTER.format(
    kind="8",
    table="reliability_delivery (id, lane_id, idempotency_key, payload, payload_digest, state, source, attempt_count,"
    " retries_used, due_at, created_at, finished_at, last_error)",
    columns=f"delivery, lane, 'evt_' || n, {PAYLOAD}, '\\x00', 'dead', 'stripe', 5, 4, at, at, at, 'x'",
)
DEAD = LETTER.format(
    kind="9",
    table="reliability_deadletter (id, lane_id, delivery_id, source, status, payload, error_code, error_message,"
    " reason, fingerprint, retry_count, execution_id, execution_url, created_at, died_at, expires_at)",
    columns="id, lane, delivery, 'delivery', CASE WHEN n %% 10 = 0 THEN 'recovered' ELSE 'dead' END,"
    f" {PAYLOAD}, (%(codes)s::text[])[kind], replace((%(texts)s::text[])[kind], '%%s', n::text),"
    " (%(reasons)s::text[])[kind], (%(prints)s::text[])[kind], 4,"
    " CASE WHEN n %% 4 = 0 THEN n::text ELSE '' END, '', at, at, at + interval '30 days'",
)
ATTEMPTS = """
INSERT INTO reliability_attempt (delivery_id, number, result, code, error, status_code, started_at, duration_ms,
    response_headers, response_body, probe, worker)
SELECT d.id, k, 'transient', 'http_500', 'Import failed', 500, d.created_at, 120, '{}', '{"message": "failed"}',
    false, 'bench'
FROM reliability_delivery d, generate_series(1, %(attempts)s) AS k
"""
GROUPS = """
INSERT INTO reliability_failuregroup
    (id, workflow_id, fingerprint, reason, code, message, dead, seen, first_at, last_at)
SELECT gen_random_uuid(), l.workflow_id, d.fingerprint, min(d.reason), min(d.error_code), max(d.error_message),
    count(*) FILTER (WHERE d.status = 'dead'), count(*), min(d.died_at), max(d.died_at)
FROM reliability_deadletter d JOIN reliability_lane l ON l.id = d.lane_id GROUP BY 2, 3
"""
DEATHS = """
INSERT INTO reliability_deathrollup (grain, at, lane_id, reason, count)
SELECT grain, date_trunc(grain, died_at, 'UTC'), lane_id, reason, count(*)
FROM reliability_deadletter, unnest(ARRAY['minute', 'hour']) AS grain GROUP BY 1, 2, 3, 4
"""
FIGURES = """
INSERT INTO reliability_rollup (grain, at, lane_id, delivered, dead, attempts, failures, latency)
SELECT grain, at, lane, 50, 3, 70, 20, ARRAY[1, 2, 8, 20, 10, 5, 2, 1, 1, 0, 0, 0, 0, 0, 0]
FROM (VALUES ('minute', interval '1 minute'), ('hour', interval '1 hour')) AS g(grain, step),
    LATERAL generate_series(date_trunc(grain, now() - interval '1 day' * %(days)s, 'UTC'), now(), step) AS at,
    unnest(%(lanes)s::int[]) AS lane
"""


def console() -> dict[str, Any]:
    """Median milliseconds and queries of each page, and what the web process grew by over all of them."""
    from django.contrib.auth.models import User

    User.objects.create_superuser(USER, "", PASSWORD)
    _fill()
    pages = _pages()
    with ground.web() as web, _signed_in() as session:
        address = f"http://127.0.0.1:{ground.PORT}"
        for path in pages.values():
            session.get(address + path, timeout=60).raise_for_status()
        before = ground.largest(web.pid)
        times = {name: _median(session, address + path) for name, path in pages.items()}
        grown = ground.largest(web.pid) - before
    queries = {name: _queries(path) for name, path in pages.items()}
    slowest, most = max(times, key=lambda one: times[one]), max(queries, key=lambda one: queries[one])
    found = {"ms": times, "queries_by_page": queries, "slowest": times[slowest], "queries": queries[most]}
    return {**found, "grown": grown, "unit": "ms", "of": slowest}


def _fill() -> None:
    """Lay the rows down without triggers, which would count each of them; the groups are made of them afterwards."""
    from django.db import connection

    from reliability.lanes import opening
    from reliability.models import error_fields

    kinds = [error_fields(code=code, message=text.replace("%s", "1")) for code, text in ERRORS]
    lanes = [
        opening.open_lane(workflow_id=workflow, tenant=f"tenant-{n}").pk
        for workflow in _workflows()
        for n in range(TENANTS)
    ]
    values: dict[str, Any] = {
        "lanes": lanes,
        "lane_count": len(lanes),
        "count": LETTERS,
        "days": DAYS,
        "attempts": ATTEMPTS_EACH,
        "codes": [code for code, _ in ERRORS],
        "texts": [text for _, text in ERRORS],
        "kinds": len(ERRORS),
        "reasons": [one["reason"] for one in kinds],
        "prints": [one["fingerprint"] for one in kinds],
    }
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for statement in (DELIVERIES, DEAD, ATTEMPTS, GROUPS, DEATHS, FIGURES):
            cursor.execute(statement, values)
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE")


def _workflows() -> Iterator[Any]:
    from reliability.models import Workflow

    for n in range(WORKFLOWS):
        slug = f"workflow-{n}"
        yield Workflow.objects.create(slug=slug, name=f"Workflow {n}", path=slug).pk


def _pages() -> dict[str, str]:
    from reliability.models import DeadLetter

    some = DeadLetter.objects.select_related("delivery", "lane__workflow").order_by("id")[LETTERS // 2]
    letters, key = "/admin/reliability/deadletter/", some.delivery.idempotency_key if some.delivery else ""
    slug = some.lane.workflow.slug
    return {
        "overview": "/admin/",
        "overview, 7 days": "/admin/?range=7d",
        "list": f"{letters}?status__exact=dead",
        "list of all": f"{letters}?status__exact=all",
        "filtered list": f"{letters}?status__exact=dead&workflow={slug}&reason={some.reason}",
        "by code": f"{letters}?status__exact=dead&error_code={some.error_code}",
        "by id": f"{letters}?status__exact=all&q={some.pk}",
        "by an id's beginning": f"{letters}?status__exact=all&q={str(some.pk)[:13]}",
        "by key": f"{letters}?status__exact=all&q={key}",
        "by error": f"{letters}?status__exact=dead&q=Ledger+is+overloaded",
        "failure group": f"{letters}?status__exact=dead&workflow={slug}&fingerprint={some.fingerprint}",
        "dead letter": f"{letters}{some.pk}/change/",
    }


@contextmanager
def _signed_in() -> Iterator[requests.Session]:
    with requests.Session() as session:
        address = f"http://127.0.0.1:{ground.PORT}/admin/login/"
        session.get(address, timeout=30)
        form = {"username": USER, "password": PASSWORD, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
        answer = session.post(address, data={**form, "next": "/admin/"}, headers={"Referer": address}, timeout=30)
        assert "sessionid" in session.cookies, answer.status_code
        yield session


def _median(session: requests.Session, address: str) -> float:
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        session.get(address, timeout=60).raise_for_status()
        taken.append(1000 * (time.perf_counter() - begun))
    return median(taken)


def _queries(path: str) -> int:
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(User.objects.get(username=USER))
    client.get(path)  # a session writes down every so often that it was used
    with CaptureQueriesContext(connection) as caught:
        client.get(path)
    return len(caught)
