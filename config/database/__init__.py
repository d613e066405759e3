"""The database engine: Django's PostgreSQL backend with limits for every wait, for every kind of work.

`base` is the backend that `DATABASES` names, `connections` are its psycopg connections. `roles` say how long each kind
of work may wait, `sessions` what each session is set to. `names` resolves host names within a limit. `prepared`
prepares frequent statements. `sqlstates` says what an error means for the caller.
"""
