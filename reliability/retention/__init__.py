"""Retention: the rules for how long each kind of row is kept, and the runner that applies them in batches."""
