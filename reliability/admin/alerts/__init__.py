"""Screens of alerts and silences."""
