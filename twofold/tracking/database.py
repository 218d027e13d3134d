"""A SQL database as MLflow's store, examined before MLflow opens it.

MLflow would try for minutes to open a database that does not answer, create its tables in an empty one, and upgrade
the tables of an older version: a command that only reads must do none of this.
"""

from pathlib import Path

from twofold.core.errors import RegistryError

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql")


def is_database(uri: str) -> bool:
    """Return whether the store at this address is a SQL database, with whatever driver."""
    return uri.partition(":")[0].partition("+")[0] in SCHEMES


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite database; None for another store, or for one in memory."""
    from sqlalchemy import make_url

    if uri.partition(":")[0].partition("+")[0] != "sqlite":
        return None
    file = make_url(uri).database
    return Path(file).absolute() if file and file != ":memory:" else None


def check_database(uri: str, *, create: bool) -> None:
    """Make sure that MLflow can open a database, and that opening it changes nothing.

    Args:
        create: accept a database that has no tables yet, or a SQLite file that does not exist.

    Raises:
        RegistryError: there is no such database, or it has the tables of another version of MLflow.
        ImportError: its driver is not installed.
        SQLAlchemyError: it does not answer, or rejects the login.
    """
    import mlflow
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine

    file = sqlite_file(uri)
    revision = None
    if file is None or file.exists():
        engine = create_engine(uri)
        try:
            with engine.connect() as connection:
                revision = MigrationContext.configure(connection).get_current_revision()
        finally:
            engine.dispose()
    if revision is None:
        if not create:
            raise RegistryError("it does not exist, or has no tables yet: a training or register creates them")
        return
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    if revision in scripts.get_heads():
        return
    if revision in {each.revision for each in scripts.walk_revisions()}:
        remedy = "an older MLflow; back it up, then run `mlflow db upgrade` on it"
    else:
        remedy = "a newer MLflow than this one; install that version here"
    raise RegistryError(f"its tables (schema {revision}) are those of {remedy}")
