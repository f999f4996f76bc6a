"""What Alembic runs: on the connection it is handed, in the transaction that is open there.

There is no alembic.ini: the relay gives the connection and takes the locks itself. A new revision
is written by hand after those in `versions`.
"""

from __future__ import annotations

from alembic import context

from relay.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # Of SQLite too: a revision is there as a whole or not at all.
    transactional_ddl=True,
)
context.run_migrations()
