"""The lock order: the order in which a transaction locks rows, so that no two transactions wait for each other.

This is the one place that defines it; functions that lock refer to it.

1. Tables in the order of `ORDER`. A transaction may leave out any of them.
2. Several rows of a table in the order of their ids. There are two exceptions, where ids are not known yet: new
   deliveries, whose idempotency keys are locked in the order of workflow slug, tenant and key, and rows that a file
   names (workflows, cron jobs), in the order of slugs. Text is compared by code point: SQL says `COLLATE "C"`.
3. A row that is locked before it is written is locked `FOR NO KEY UPDATE`, which does not block the checks of foreign
   keys. `FOR UPDATE` is only for rows that are to be deleted, and for one place that says why.
4. Rows that are only ever written under another row's lock are not in the order: a lane's breaker, its rate, totals and
   roll-ups (the lane's lock), attempts (the delivery's), runs and pings (the cron job's).
5. The rows that triggers count in (`AT_COMMIT`) are locked when the transaction commits, after all others, in the order
   of their keys.
6. No transaction waits for wake-ups: neither for a lane's advisory locks nor for a job's row (`reliability.queue`).

How long a transaction waits for a lock:

- A dispatcher works for all lanes. It waits for a lane's lock 0.1 seconds at most, not at all for a lane that it found
  locked just before, and never for the instance's breaker.
- Housekeeping skips locked rows (`SKIP LOCKED`).
- A worker's job waits two seconds, then it is run again later (`core.lock_waits`).
- A web request waits as long as its session's `lock_timeout` allows; then the answer is 503.

Where PostgreSQL ends a deadlock all the same, a function that is one transaction is run again
(`core.lock_waits.deadlocks_retried`). `tests/core/test_lock_order.py` records the locks of real transactions and
compares them with this order.
"""

ORDER = (
    "reliability_idempotencykey",
    "reliability_flag",
    "reliability_operation",
    "scheduling_cronjob",
    "reliability_apikey",
    "reliability_stripeendpoint",
    "reliability_stripeevent",
    "reliability_workflow",
    "reliability_failurereport",
    "reliability_lane",
    "reliability_slot",
    "reliability_executionretry",
    "reliability_delivery",
    "reliability_execution",
    "reliability_operationtally",
    "reliability_deadletter",
    # The instance's breaker, which all lanes share: locked last, so that it is held as briefly as possible. A lane's
    # own breaker is written under its lane's lock.
    "reliability_breaker",
)
# Locked by deferred triggers, so their place does not depend on what the transaction did before.
AT_COMMIT = ("reliability_failuregroup", "reliability_deathrollup", "reliability_total")
