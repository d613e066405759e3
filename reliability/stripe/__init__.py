"""Stripe events: verified, recorded once, routed to deliveries, claimed by workflows, and compared with Stripe's own
list.
"""
