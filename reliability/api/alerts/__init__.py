"""The API of alerts and silences."""
