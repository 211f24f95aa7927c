"""Alembic's entry: migrates on the connection that `database.migrate` has opened, inside its transaction."""

from alembic import context

from relay.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
