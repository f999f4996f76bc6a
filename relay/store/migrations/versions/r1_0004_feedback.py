"""What clients have said of answers.

Revision: 1_0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1_0004"
down_revision = "1_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; nothing has been said yet."""
    op.create_table(
        "feedback",
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("team_id", sa.String(length=32), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("score", sa.Float(53), nullable=True),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("generation_id", name=op.f("pk_feedback")),
    )
