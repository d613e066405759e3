"""The API of the status."""
