"""Cron expressions and the times that they mean, without a clock or a database."""
