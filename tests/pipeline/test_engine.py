import asyncio
from uuid import uuid4

import pytest
from django.db import connection, transaction
from procrastinate.contrib.django import app
from procrastinate.manager import JobManager

from reliability import engine
from reliability.engine import worker

NOTIFICATION = {"type": "job_inserted", "job_id": 1}


def test_a_notification_that_a_fetch_swallows_is_told_again():
    told = asyncio.Event()
    heard = []

    async def tell(*, channel, notification):
        heard.append((channel, notification))
        told.set()

    async def listen():
        await worker.echoing(tell)(channel="any", notification=NOTIFICATION)
        told.clear()  # as the worker does when a fetch ends
        await asyncio.wait_for(told.wait(), timeout=1)

    asyncio.run(listen())
    assert heard == [("any", NOTIFICATION)] * 2


def test_workers_listen_that_way():
    assert JobManager.listen_for_jobs.__module__ == worker.__name__


@pytest.mark.django_db(transaction=True)
def test_a_worker_too_plans_a_job_with_the_transaction_that_it_belongs_to():
    one, two = uuid4(), uuid4()
    with app.replace_connector(app.connector.get_worker_connector()):
        with transaction.atomic():
            engine.tell(notice_id=one)
            transaction.set_rollback(True)
        engine.tell(notice_id=two)
        engine.tell(notice_id=two)
    with connection.cursor() as cursor:
        own = "SELECT args ->> 'notice_id' FROM procrastinate_jobs WHERE args ->> 'notice_id' = ANY(%s)"
        cursor.execute(own, [[str(one), str(two)]])  # other tests leave theirs
        assert cursor.fetchall() == [(str(two),)]
