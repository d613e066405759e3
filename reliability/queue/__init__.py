"""The wake-ups: the only package that knows Procrastinate.

A wake-up says "look at this lane". It carries nothing that the delivery rows do not say better, so that one
too many does no harm. That none is missing is kept by three rules, whose SQL half is `backstop_wake`,
`backstop_wake_at` and `backstop_requeue` (`reliability/sql/`; bulk operations have `wake_operation.sql`):

1. A wake-up is written in the transaction that made it necessary. Where one waits already (a queueing lock per lane),
   that one serves; who relies on it holds the lane's advisory lock, shared, until its transaction ends.
2. Whoever acts on a wake-up has to pass the lane's barrier before it leaves the lane: `try_barrier` says that all
   transactions that relied on the wake-up have ended. The look that follows sees what they wrote.
3. While a dispatcher promises to look again by itself (`Lane.attended_until`), arrivals need no wake-up. The promise
   is withdrawn under the exclusive advisory lock; or it is withdrawn first, and the dispatcher looks again after the
   barrier. A wake-up at the promise's end stands by if the dispatcher dies.

Nobody waits for these locks. A transaction that cannot take the shared one relies on nothing and writes a wake-up of
its own; a dispatcher that cannot take the exclusive one keeps the lane, or leaves it with a wake-up (`requeue`) whose
worker passes the barrier in its place. So one transaction that hangs holds up no other lane, and wake-ups have no part
in any deadlock. The order in which rows are locked is in `reliability.core.lock_order`.

The worker polls for due jobs at an interval; so that "later" is exact, such a job is made due `LEAD` earlier
and sleeps the rest.
"""

from .handlers import register, registered
from .jobs import look_up, notify, retry
from .maintenance import Condition, condition, delete_ended_jobs, ended_jobs, workers_alive
from .tasks import DISPATCH_QUEUE, LEAD, N8N_QUEUE, OPERATION_QUEUE, on_routine
from .wakeups import LANE_LOCK, forget, requeue, stand_by, try_barrier, wake, wake_at, wake_waiting, work_on
from .worker import LOOPS, install, is_stopping, run_worker

__all__ = [
    "DISPATCH_QUEUE",
    "LANE_LOCK",
    "LEAD",
    "LOOPS",
    "N8N_QUEUE",
    "OPERATION_QUEUE",
    "Condition",
    "condition",
    "delete_ended_jobs",
    "ended_jobs",
    "forget",
    "install",
    "is_stopping",
    "look_up",
    "notify",
    "on_routine",
    "register",
    "registered",
    "requeue",
    "retry",
    "run_worker",
    "stand_by",
    "try_barrier",
    "wake",
    "wake_at",
    "wake_waiting",
    "work_on",
    "workers_alive",
]
