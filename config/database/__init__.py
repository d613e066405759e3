"""The database engine: Django's for PostgreSQL, with time limits, cheap connection checks and redacted errors."""
