from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from server import migrations
from server.storage import Database, load_metadata, open_database


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, load_metadata()))


def test_migrations_build_exactly_the_tables(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/a.db")
    assert migrations.current(database) is None
    assert migrations.migrate(database) == migrations.newest() == migrations.current(database)
    assert differences(database) == []
    migrations.migrate(database)


def test_a_missing_table_is_a_difference(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/a.db")
    migrations.migrate(database)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE follow_up")
    assert len(differences(database)) == 1
