"""Keep what proves that the sender of a mail wrote it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; of earlier mails nobody knows, so what they were answered with counts as unproven."""
    op.add_column("inbox", sa.Column("proof", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE automatic_answer SET started_by = 'answers, unproven' WHERE started_by = 'mailboxes'")
