"""Procrastinate's connection to the database, with a limit for every wait."""

from procrastinate import App
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.utils import connector_params
from procrastinate.psycopg_connector import PsycopgConnector

from config.database import connections, roles
from reliability import checks


class Connector(DjangoConnector):
    """Procrastinate's connector, with the time limits of a worker's role for the database."""

    def get_worker_connector(self) -> PsycopgConnector:
        """Return the connector of a worker, and set this process's limits to a worker's.

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
    """Replace the connector of Procrastinate's app; called when the app has been created."""
    # The job manager keeps a reference of its own, so both have to change.
    engine.connector = engine.job_manager.connector = Connector()
