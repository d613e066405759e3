"""The Stripe webhook, and the API of Stripe endpoints."""
