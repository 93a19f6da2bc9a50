"""Alembic's entry: runs the versions on the connection it is handed."""

from alembic import context
from sqlmodel import SQLModel

from bot.migrations import ours

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SQLModel.metadata, include_name=ours)
with context.begin_transaction():
    context.run_migrations()
