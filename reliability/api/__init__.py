"""The HTTP API: each view parses the request, makes one call into a domain package, and renders the result."""
