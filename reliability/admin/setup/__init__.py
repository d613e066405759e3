"""Screens of API keys, users, sign-ins and the audit log."""
