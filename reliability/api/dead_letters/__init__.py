"""The API of dead letters."""
