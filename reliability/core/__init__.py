"""What every domain stands on: the database's clock, pipelined statements, limited waits for locks, the audit log, the
context of a request, and the secrets that must not be stored.
"""
