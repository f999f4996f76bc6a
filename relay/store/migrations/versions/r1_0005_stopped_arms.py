"""Arms of experiments that were stopped.

Revision: 1_0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1_0005"
down_revision = "1_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; nothing was stopped yet."""
    op.create_table(
        "stopped_arms",
        sa.Column("experiment", sa.String(length=64), nullable=False),
        sa.Column("arm", sa.String(length=64), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("use", sa.String(length=255), nullable=False),
        sa.Column("respect", sa.String(length=16), nullable=False),
        sa.Column("in_arm", sa.BigInteger(), nullable=False),
        sa.Column("in_control", sa.BigInteger(), nullable=False),
        sa.Column("log_evidence", sa.Float(53), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("experiment", "arm", name=op.f("pk_stopped_arms")),
    )
