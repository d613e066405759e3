"""What a request waits for: a thread and the database have one limit together."""

import threading
import time
from functools import partial

import pytest
import requests

from config.database import roles
from config.database.roles import Role
from config.front import limits
from config.front.exchange import kind_of, max_wait_of
from config.front.pool import Full, Job, Kind, Pool

from ..support.receiver import until

FOUR, NONE = Role("four", 4), Role("none", 0)


@pytest.mark.parametrize(("waited", "left"), [(0, 4), (1, 3), (3, 1), (3.5, 1), (100, 1)])
def test_what_was_waited_for_a_thread_is_taken_off_the_limit(waited, left):
    with roles.within(FOUR, waited=waited):
        assert left - 0.5 < roles.remaining() <= left


def test_no_limit_stays_none_however_long_was_waited():
    with roles.within(NONE, waited=100):
        assert roles.remaining() is None
    assert max_wait_of(NONE) == roles.FOREVER


def test_a_request_s_limit_counts_from_when_it_was_complete():
    seen = []
    application = roles.with_deadline(lambda environ, start: seen.append(roles.remaining()) or [])
    for since in ({}, {roles.ARRIVED: time.monotonic() - 1}, {roles.ARRIVED: time.monotonic() - 60}):
        application({"REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/deliveries/", **since}, None)
    limit = roles.INTAKE.limit
    assert limit - 0.5 < seen[0] <= limit
    assert limit - 1.5 < seen[1] <= limit - 1
    assert 0 < seen[2] <= limit * roles.LEAST_SHARE


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/api/v1/deliveries/", Kind.INTAKE),
        ("POST", "/api/v1/deliveries/batch/", Kind.INTAKE),
        ("POST", "/stripe/webhook/", Kind.INTAKE),
        ("POST", "/cron/weekly-recap/", Kind.INTAKE),
        ("GET", "/api/v1/breakers/permit/", Kind.INTAKE),
        ("GET", "/readyz", Kind.INTAKE),
        ("GET", "/api/v1/deliveries/", Kind.OTHER),
        ("HEAD", "/api/v1/deliveries/", Kind.OTHER),
        ("PUT", "/api/v1/workflows/one/", Kind.OTHER),
        ("POST", "/api/v1/dead-letters/replay/", Kind.OTHER),
        ("GET", "/metrics", Kind.OTHER),
        ("POST", "/admin/login/", Kind.OTHER),
        ("GET", "/nowhere/", Kind.OTHER),
    ],
)
def test_only_what_has_a_short_limit_may_take_the_last_thread(method, path, kind):
    assert kind_of(roles.of(method=method, path=path)) is kind


def test_each_request_waits_as_long_as_its_own_limit_allows(settings):
    settings.WEB_THREADS, settings.WEB_QUEUE_SECONDS = 1, 60
    pool, release, ran = Pool(limits.configured()), threading.Event(), []

    def job(name, max_wait, run=None):
        return Job(Kind.OTHER, max_wait=max_wait, run=run or partial(ran.append, name), on_wait=int, expire=int)

    pool.submit(job("first", 60, release.wait))
    until(lambda: not pool.waiting(), what="the thread to take it")
    patient, hasty = job("patient", 60), job("hasty", 0.1)
    pool.submit(patient)
    pool.submit(hasty)
    time.sleep(0.2)
    assert pool.expire() == [hasty]
    assert pool.waiting() == [patient]
    release.set()
    until(lambda: ran == ["patient"], what="the one that waited")


def test_a_queue_full_of_others_takes_intake_all_the_same(settings):
    settings.WEB_THREADS, settings.WEB_QUEUE_LENGTH = 1, 2
    pool, release = Pool(limits.configured()), threading.Event()

    def job(kind, run=int):
        return Job(kind, max_wait=60, run=run, on_wait=int, expire=int)

    pool.submit(job(Kind.OTHER, release.wait))
    until(lambda: not pool.waiting(), what="the thread to take it")
    for kind in (Kind.OTHER, Kind.INTAKE):
        pool.submit(job(kind))
        pool.submit(job(kind))
        with pytest.raises(Full):
            pool.submit(job(kind))
    release.set()
    until(lambda: not pool.waiting(), what="the queue to end")


def test_one_thread_serves_all_kinds(serve, key, workflow):
    workflow(paused=True)
    web, bearer = serve(WEB_THREADS="1"), {"Authorization": f"Bearer {key()}"}
    body = {"workflow": "echo", "payload": {"n": 1}}
    for _ in range(3):
        made = requests.post(f"{web.url}/api/v1/deliveries/", json=body, headers=bearer, timeout=30)
        assert made.status_code == 201
        assert requests.get(f"{web.url}/api/v1/deliveries/", headers=bearer, timeout=30).status_code == 200
        assert requests.get(f"{web.url}/readyz", timeout=30).status_code == 200
        assert requests.get(f"{web.url}/metrics", timeout=30).status_code == 200
