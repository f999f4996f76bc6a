"""What policies decided of a generation, what caches saved, and which leg an attempt was.

Revision: 1_0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1_0003"
down_revision = "1_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of rows before them nothing is known."""
    op.add_column("generations", sa.Column("decision", sa.Text(), nullable=True))
    op.add_column("generations", sa.Column("saved_micro", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("leg", sa.String(length=64), nullable=True))
