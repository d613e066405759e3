"""The HTTP API: each view parses, makes one call into the pipeline, and answers."""
