"""Alembic's entry: migrates on the connection that `migrating.migrate` has opened, a transaction for each revision."""

from alembic import context

from relay.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
