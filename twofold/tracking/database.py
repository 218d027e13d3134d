"""A SQL database as MLflow's store, examined before MLflow opens it.

MLflow would try for minutes to open one that does not answer, create its tables in an empty one, and upgrade those of
an older MLflow: a command that only reads must do none of this.
"""

import os
from pathlib import Path

from twofold.core.errors import RegistryError

SCHEMA = "dc11669786a5"  # of the tables, by the MLflow that pyproject.toml allows


def check_database(uri: str, *, create: bool) -> Path | None:
    """Make sure that MLflow can open a database and changes nothing in it; return its file if it is SQLite's.

    With `create`, it may have no tables yet, or not exist. Drivers and SQLAlchemy raise errors of many types.

    Raises:
        RegistryError: there is none, its folder cannot be written, or its tables are another MLflow's.
    """
    import mlflow
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine, inspect, make_url, text

    url, file, revision, unused = make_url(uri), None, None, False
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        file = Path(str(url.database)).absolute()
        if not os.access(file.parent, os.W_OK):
            raise RegistryError("its folder does not exist or cannot be written")
    if file is None or file.exists():
        engine = create_engine(uri)
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            # MLflow adds its default experiment as soon as it has made the tables.
            unused = inspect(connection).has_table("experiments")
            unused = unused and connection.execute(text("SELECT 1 FROM experiments")).first() is None
        engine.dispose()
    if revision is None and not create:
        raise RegistryError("it does not exist, or has no tables yet: a training or register creates them")
    if revision not in (None, SCHEMA):
        scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
        remedy = "a newer MLflow: install that"
        if any(revision == each.revision for each in scripts.walk_revisions()):
            if unused:
                raise RegistryError("MLflow is making its tables; try again in a moment (if it was stopped: remove it)")
            remedy = "an older MLflow: back it up, then run `mlflow db upgrade`"
        raise RegistryError(f"its tables (schema {revision}) are those of {remedy}")
    return file
