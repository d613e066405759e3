"""The foundation of every domain package: time, transactions, locks, audit and the context of a request.

`clock` reads the database's time. `lock_order` defines in which order rows are locked, `lock_waits` how long a
transaction waits for a lock, and `db_pipeline` sends statements together. `audit` records what operators do,
`request_context` carries the id of the current request, `known_secrets` removes secrets from text before it is stored.
`json_files` is shared by the importers of workflow and cron job files; `process_usage` reads memory and CPU time.
"""
