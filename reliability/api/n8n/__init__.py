"""The API that n8n reports to."""
