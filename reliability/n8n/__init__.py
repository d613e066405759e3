"""n8n's REST API, and what n8n reports: failures, callbacks, execution retries, executions and workflows."""
