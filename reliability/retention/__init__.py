"""How long everything is kept: the rules, and the runner that applies each in batches."""
