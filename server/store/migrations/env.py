"""Alembic's entry: migrations run inside the transaction that `schema.bring_up_to_date` holds."""

from alembic import context

from hansa.server.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
