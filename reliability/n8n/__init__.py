"""n8n's REST API and what n8n reports: failures, callbacks, its own retries, its executions and its workflows."""
