"""The database engine: Django's own for PostgreSQL, whose connections are looked at before they are asked."""
