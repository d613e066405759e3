"""The order in which a transaction locks rows. All transactions keep to it, so that no two wait for each other.

1. Tables in the order of `ORDER`; a transaction may leave out any.
2. Several rows of a table in the order of their ids. There are two exceptions, where ids are not known yet: new
   deliveries, whose idempotency keys are locked in the order of workflow slug, tenant and key, and rows that a file
   names (workflows, cron jobs), in the order of slugs. Text is compared by code point: SQL says `COLLATE "C"`.
3. A row that is locked before it is written is locked `FOR NO KEY UPDATE`, which the checks of foreign keys pass. The
   full lock is for rows that are to be deleted, and for one place that says why.
4. Rows that are only ever written under another row's lock have no place in the order: a lane's breaker, its rate,
   totals and roll-ups (the lane's lock), attempts (the delivery's), runs and pings (the cron job's).
5. What triggers count (`AT_COMMIT`) is locked when the transaction commits, whatever it did before, in the order of
   its keys (`sql/trigger_apply_outbox.sql`).
6. Nobody waits for wake-ups: neither for a lane's advisory locks nor for a job's row (`reliability.queue`).

How long a transaction waits for a lock:

- A dispatcher works for all lanes. It waits for one of them a tenth of a second at the most, not at all for a lane that
  it found locked just now, and never for the instance's breaker.
- Housekeeping passes by what is locked (`SKIP LOCKED`).
- A worker's job waits two seconds, then it is put off (`core.lock_waits`).
- A web request waits as long as its session's `lock_timeout` allows; then the answer is 503.

Where PostgreSQL breaks up a deadlock all the same, what is one transaction is done again
(`core.lock_waits.deadlocks_retried`). `tests/core/test_lock_order.py` records what real transactions lock and
holds them to this order.
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
    # The instance's; a lane's is written under its lane's lock.
    "reliability_breaker",
)
AT_COMMIT = ("reliability_failuregroup", "reliability_deathrollup", "reliability_total")
