"""The wake-ups: the only package that knows Procrastinate.

A wake-up says "look at this lane". It carries nothing that the delivery rows do not say better, so that one
too many does no harm. That none is missing is kept by three rules, whose SQL half is `backstop_wake` and
`backstop_wake_at` (migration 0002; bulk operations have theirs in 0012):

1. A wake-up is written in the transaction that made it necessary, under a shared advisory lock of its lane.
   Where one waits already (a queueing lock per lane), that one serves.
2. Whoever acts on a wake-up passes `barrier` first: it waits for the transactions that relied on it.
3. While a dispatcher promises to look again by itself (`Lane.attended_until`), arrivals need no wake-up. The
   promise ends under the exclusive advisory lock, and a wake-up at its end stands by if the dispatcher dies.

The worker polls for due jobs at an interval; so that "later" is exact, such a job is made due `LEAD` earlier
and sleeps the rest.
"""

from reliability.engine.jobs import look_up, retry, tell
from reliability.engine.maintenance import Condition, condition, delete_ended_jobs, ended_jobs, workers_alive
from reliability.engine.tasks import DISPATCH_QUEUE, LEAD, N8N_QUEUE, OPERATION_QUEUE, on_routine
from reliability.engine.wakeups import (
    LANE_LOCK,
    barrier,
    barrier_in_transaction,
    forget,
    stand_by,
    wake,
    wake_at,
    wake_waiting,
    work_on,
)
from reliability.engine.worker import LOOPS, install, is_stopping, run_worker

__all__ = [
    "DISPATCH_QUEUE",
    "LANE_LOCK",
    "LEAD",
    "LOOPS",
    "N8N_QUEUE",
    "OPERATION_QUEUE",
    "Condition",
    "barrier",
    "barrier_in_transaction",
    "condition",
    "delete_ended_jobs",
    "ended_jobs",
    "forget",
    "install",
    "is_stopping",
    "look_up",
    "on_routine",
    "retry",
    "run_worker",
    "stand_by",
    "tell",
    "wake",
    "wake_at",
    "wake_waiting",
    "work_on",
    "workers_alive",
]
