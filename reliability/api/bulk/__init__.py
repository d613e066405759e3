"""The API of bulk operations."""
