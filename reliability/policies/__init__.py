"""Pure decisions: values in, a verdict out. No database, no input or output, no clock and no randomness.

For deliveries: `headers` and `webhook_path` check what a workflow is configured with, `classification` says what a
reply or a failure means, `settlement` what follows for the delivery, with `backoff` for the delay. `breaker`,
`bulkhead` (the concurrency limit) and `rate` are the limits. For failures: `failure` reads n8n's reports, `fingerprint`
groups errors, `redaction` removes secrets. `bulk` decides the next step of a bulk operation, `pacing` the batches of
housekeeping. `alert_rules`, `alerts` and `alert_text` decide and word alerts, `stripe_event` reads events, `histogram`
counts latencies.
"""
