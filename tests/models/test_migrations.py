import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader


@pytest.mark.django_db(transaction=True)
def test_every_migration_can_be_taken_back_and_made_again():
    call_command("migrate", "reliability", "zero", verbosity=0)
    assert not [name for name in connection.introspection.table_names() if name.startswith("reliability_")]
    call_command("migrate", verbosity=0)
    assert "reliability_delivery" in connection.introspection.table_names()
    assert not MigrationLoader(connection).detect_conflicts()
