"""Bulk operations on dead letters, and the replay of one: preview, submission, control, and the worker's steps."""
