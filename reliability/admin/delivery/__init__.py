"""Screens of deliveries, workflows, breakers, switches and slots."""
