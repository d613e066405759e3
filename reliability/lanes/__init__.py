"""Lanes: the lock of a lane, and everything that decides whether it may send. A lane is one (workflow, tenant).

`opening` creates a lane. `lane_lock` locks and reads it, first in each transaction that changes it; `lane_snapshot`
reads what it has in flight and due. `admission` asks every limit how many deliveries may go: `flags` (switches),
`local_faults` (faults of our own settings), `breakers` (circuit breakers), and the concurrency and rate limits.
`breaker_reports` records results on breakers. `slots` and `permits` apply the limits to workflows that others start.
`wait_reasons` explains why a delivery waits. `messages` are the values passed between claiming, sending and settling.
"""
