"""The job queue: wake-ups, tasks and the worker. The only package that imports Procrastinate.

`wakeups` and `jobs` write jobs, `tasks` are what they run, and `handlers` holds the functions that do the work, which
higher packages register. `worker` runs the loops, on `manager` (our job manager), `process` (the worker's row and
heartbeat), `threads` and `connector`. `sweep` and `lost_jobs` restore jobs that are missing, `maintenance` reads and
deletes ended jobs, `database_time` keeps PostgreSQL's time between two heartbeats.

A wake-up says "check this lane". It carries nothing that the delivery rows do not say better, so one too many does no
harm. Three rules make sure that none is missing. Their SQL half is `backstop_wake`, `backstop_wake_at` and
`backstop_requeue`; bulk operations have `backstop_wake_operation`.

1. A wake-up is written in the transaction that makes it necessary. Where one is waiting already (a queueing lock per
   lane), it serves for this transaction too. A transaction that relies on it holds the lane's advisory lock, shared,
   until it ends.
2. A dispatcher that acts on a wake-up has to pass the lane's barrier before it leaves the lane: `try_barrier` says that
   all transactions that relied on the wake-up have ended. The check that follows sees what they wrote.
3. While a dispatcher promises to check a lane again by itself (`Lane.attended_until`), arrivals need no wake-up. The
   dispatcher withdraws the promise under the exclusive advisory lock; or it withdraws it first, and checks the lane
   again after the barrier. A wake-up at the end of the promise is the fallback if the dispatcher dies.

No transaction waits for these advisory locks. One that cannot take the shared lock relies on nothing and writes a
wake-up of its own. A dispatcher that cannot take the exclusive lock keeps the lane, or leaves it with a wake-up
(`requeue`) whose worker passes the barrier in its place. So a transaction that hangs holds up no other lane, and
wake-ups have no part in any deadlock. The order in which rows are locked is in `reliability.core.lock_order`.

The worker polls for due jobs at an interval. To run a job exactly on time, it is made due `LEAD` earlier and sleeps the
rest.
"""

from .handlers import register, registered
from .jobs import look_up, notify, retry_execution
from .maintenance import EngineStatus, delete_ended_jobs, ended_jobs, engine_status, workers_alive
from .tasks import DISPATCH_QUEUE, LEAD, N8N_QUEUE, OPERATION_QUEUE, register_routine
from .wakeups import (
    LANE_LOCK,
    delete_wakeups,
    plan_operation_fallback,
    plan_operation_step,
    requeue,
    try_barrier,
    wake,
    wake_at,
    wake_waiting,
)
from .worker import LOOPS, install, is_stopping, run_worker

__all__ = [
    "DISPATCH_QUEUE",
    "LANE_LOCK",
    "LEAD",
    "LOOPS",
    "N8N_QUEUE",
    "OPERATION_QUEUE",
    "EngineStatus",
    "delete_ended_jobs",
    "delete_wakeups",
    "ended_jobs",
    "engine_status",
    "install",
    "is_stopping",
    "look_up",
    "notify",
    "plan_operation_fallback",
    "plan_operation_step",
    "register",
    "register_routine",
    "registered",
    "requeue",
    "retry_execution",
    "run_worker",
    "try_barrier",
    "wake",
    "wake_at",
    "wake_waiting",
    "workers_alive",
]
