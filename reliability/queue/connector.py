"""Procrastinate's connection to the database, whose every wait has an end."""

from procrastinate import App
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.utils import connector_params
from procrastinate.psycopg_connector import PsycopgConnector

from config.database import connections, roles
from reliability import checks


class Connector(DjangoConnector):
    """Procrastinate's connector, whose worker waits for the database as long as a worker may, and no longer."""

    def get_worker_connector(self) -> PsycopgConnector:
        """Return the connector of a worker, and give this process a worker's limits.

        Raises `CommandError` for a database that cannot be used.
        """
        roles.set_process_role(roles.WORKER)
        checks.must_be_usable()
        return PsycopgConnector(
            kwargs=connector_params(self.alias),
            timeout=roles.WORKER.limit or 30.0,
            connection_class=connections.AsyncConnection,
            configure=connections.configure,
        )


def install_connector(engine: App) -> None:
    """Give Procrastinate's app our connector, once it is made."""
    engine.connector = engine.job_manager.connector = Connector()
