"""Leases and calls are measured by a clock that nobody sets; deaths of a run's workers are counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; what stands there already goes by the wall clock until its owner writes again."""
    op.add_column("run", sa.Column("deaths", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("until_clock", sa.Text(), nullable=False, server_default=""))
    op.add_column("run", sa.Column("until_steady", sa.BigInteger(), nullable=True))
    op.add_column("effect", sa.Column("clock", sa.Text(), nullable=False, server_default=""))
    op.add_column("effect", sa.Column("clock_zero", sa.Text(), nullable=False, server_default=""))
