"""What budgets had been charged for by generations that were deleted since.

Revision: 1_0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1_0002"
down_revision = "1_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; nothing has been deleted yet."""
    op.create_table(
        "deleted_sums",
        sa.Column("budget_id", sa.String(length=32), nullable=False),
        sa.Column("period_start_s", sa.BigInteger(), nullable=False),
        sa.Column("settled_micro", sa.BigInteger(), nullable=False),
        sa.Column("overrun_micro", sa.BigInteger(), nullable=False),
        sa.Column("generations", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", "period_start_s", name=op.f("pk_deleted_sums")),
    )
