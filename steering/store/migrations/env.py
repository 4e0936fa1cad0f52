"""Runs revisions on the connection that `steering.store.schema.upgrade` hands over, in its transaction."""

from alembic import context

from steering.store.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
