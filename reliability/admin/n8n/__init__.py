"""Screens of what n8n reported."""
