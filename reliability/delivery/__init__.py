"""A delivery's way from acceptance to its final state.

`intake` accepts triggers, `idempotency` makes other requests happen once per key. `dispatcher` runs the worker's lanes
(`turns` is its state per lane); `dispatch` is one transaction of it: settle, claim, release. `sending` sends a claim.
`settle` records the results of attempts, `lane_expiry` and `lease_expiry` those of expired leases and deliveries,
`rollups` counts them, `attempt_log` logs them. `correlation` applies what n8n reports about executions, which
`executions` records. `control` is what operators do: cancel, send now, pause, resume. `curl` writes a request as a
command.
"""
