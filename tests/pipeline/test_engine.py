import asyncio

from procrastinate.manager import JobManager

from reliability import engine

NOTIFICATION = {"type": "job_inserted", "job_id": 1}


def test_a_notification_that_a_fetch_swallows_is_told_again():
    told = asyncio.Event()
    heard = []

    async def tell(*, channel, notification):
        heard.append((channel, notification))
        told.set()

    async def listen():
        await engine.echoing(tell)(channel="any", notification=NOTIFICATION)
        told.clear()  # as the worker does when a fetch ends
        await asyncio.wait_for(told.wait(), timeout=1)

    asyncio.run(listen())
    assert heard == [("any", NOTIFICATION)] * 2


def test_workers_listen_that_way():
    assert JobManager.listen_for_jobs.__module__ == engine.__name__
