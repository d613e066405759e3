"""Screens of Stripe endpoints and events."""
