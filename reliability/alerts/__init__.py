"""Alerts: readings, the check that compares them with rules, notices, and the channels that send these."""
