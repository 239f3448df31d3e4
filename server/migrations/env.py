from alembic import context

from server.storage import load_metadata

# The connection is handed over by server.migrations.migrate, inside its transaction.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=load_metadata(),
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
