"""Stripe events: verifying, recording each once, routing to deliveries, claims, and reconciliation with Stripe's
list.
"""
