"""HTTP requests to n8n and to other services; the only package that opens a socket.

`client` sends one request within a deadline and returns the reply or the failure. Below it: `exchange` holds the
deadlines and progress of one request and writes it, `deadline_adapter` gives `requests` connections that obey them,
`response` reads the reply, `tls` makes TLS contexts. `no_reply` explains why no reply came, with `local_fault` for
faults of our own settings. `repeated_reads` repeats reads that failed for a moment.
"""
