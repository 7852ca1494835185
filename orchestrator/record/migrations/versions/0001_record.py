"""Create the record: audit trail, private values, runs, effects, cases, inbox and questions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SQLITE_GUARD = """
CREATE TRIGGER audit_event_no_{what} BEFORE {action} ON audit_event
BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END
"""
# REPLACE removes the row in its way without firing a DELETE trigger (SQLite: "PRAGMA recursive_triggers").
_SQLITE_REPLACE_GUARD = """
CREATE TRIGGER audit_event_no_replace BEFORE INSERT ON audit_event
WHEN EXISTS (
    SELECT 1 FROM audit_event
    WHERE rowid = NEW.rowid OR event_id = NEW.event_id OR (chain_id = NEW.chain_id AND chain_seq = NEW.chain_seq)
)
BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END
"""
_POSTGRESQL_GUARD = """
CREATE FUNCTION audit_event_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'audit_event is append-only'; END $$;
CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE ON audit_event
FOR EACH ROW EXECUTE FUNCTION audit_event_append_only();
CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_event
FOR EACH STATEMENT EXECUTE FUNCTION audit_event_append_only();
"""


def upgrade() -> None:
    """Create tables, indexes and the guards that make ``audit_event`` append-only."""
    _create_tables()
    if op.get_context().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(_SQLITE_GUARD.format(what=action.lower(), action=action))
        op.execute(_SQLITE_REPLACE_GUARD)
    else:
        op.execute(_POSTGRESQL_GUARD)


def _create_tables() -> None:
    op.create_table(
        "audit_event",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("chain_seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_auth", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("prefect_run_id", sa.Text(), nullable=True),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("process_version", sa.Text(), nullable=True),
        sa.Column("step", sa.Integer(), nullable=True),
        sa.Column("capability", sa.Text(), nullable=True),
        sa.Column("operation", sa.Text(), nullable=True),
        sa.Column("connection", sa.Text(), nullable=True),
        sa.Column("connector_version", sa.Text(), nullable=True),
        sa.Column("effect_id", sa.Text(), nullable=True),
        sa.Column("subject_ref", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("prev_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
        sa.UniqueConstraint("chain_id", "chain_seq", name="uq_audit_event_chain"),
    )
    op.create_index("ix_audit_event_at", "audit_event", ["at"], unique=False)
    op.create_table(
        "audit_private",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("commitment", sa.Text(), nullable=False),
        sa.Column("subject_ref", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "commitment"),
    )
    op.create_index(op.f("ix_audit_private_subject_ref"), "audit_private", ["subject_ref"], unique=False)
    op.create_table(
        "key_mark",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "customer_case",
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("lookup", sa.Text(), nullable=False),
        sa.Column("subject_ref", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Text(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("case_id"),
    )
    op.create_index(
        "uq_customer_case_open",
        "customer_case",
        ["lookup"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "inbox",
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Text(), nullable=False),
        sa.Column("accepted_at", sa.Text(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("subject_ref", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=True),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.Column("vacuumed_at", sa.Text(), nullable=True),
        sa.Column("vacuumed_by", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("case_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("delivery"),
        sa.UniqueConstraint("source", "fingerprint", name="uq_inbox_fingerprint"),
        sa.UniqueConstraint("source", "source_key", name="uq_inbox_source_key"),
    )
    op.create_index("ix_inbox_accepted", "inbox", ["accepted_at"], unique=False)
    op.create_index("ix_inbox_run", "inbox", ["run_id"], unique=False)
    op.create_index(op.f("ix_inbox_run_id"), "inbox", ["run_id"], unique=False)
    op.create_index("ix_inbox_state", "inbox", ["state", "accepted_at"], unique=False)
    op.create_index(op.f("ix_inbox_subject_ref"), "inbox", ["subject_ref"], unique=False)
    op.create_index(
        "ix_inbox_vacuum",
        "inbox",
        ["accepted_at"],
        unique=False,
        sqlite_where=sa.text("vacuumed_at IS NULL"),
        postgresql_where=sa.text("vacuumed_at IS NULL"),
    )
    op.create_table(
        "automatic_answer",
        sa.Column("effect_id", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("effect_id"),
    )
    op.create_index("ix_automatic_answer_at", "automatic_answer", ["started_by", "at"], unique=False)
    op.create_index("ix_automatic_answer_recipient", "automatic_answer", ["recipient", "at"], unique=False)
    op.create_table(
        "intake_cursor",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("since", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source"),
    )
    op.create_table(
        "connection_state",
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("connection"),
    )
    op.create_table(
        "heartbeat",
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("process"),
    )
    op.create_table(
        "subject_key",
        sa.Column("subject_ref", sa.Text(), nullable=False),
        sa.Column("lookup", sa.Text(), nullable=True),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject_ref"),
        sa.UniqueConstraint("lookup"),
    )
    op.create_table(
        "run",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=True),
        sa.Column("subject_ref", sa.Text(), nullable=False),
        sa.Column("parent_run_id", sa.Text(), nullable=True),
        sa.Column("prefect_run_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("waits_for", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Text(), nullable=True),
        sa.Column("postponed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("mirror", sa.Text(), server_default="none", nullable=False),
        sa.Column("mirror_after", sa.Text(), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.Column("cancelled_by_auth", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case_id"],
            ["customer_case.case_id"],
        ),
        sa.PrimaryKeyConstraint("run_id"),
        sa.UniqueConstraint("prefect_run_id"),
    )
    op.create_index(op.f("ix_run_case_id"), "run", ["case_id"], unique=False)
    op.create_index("ix_run_created", "run", ["created_at"], unique=False)
    op.create_index("ix_run_due", "run", ["state", "due_at"], unique=False)
    op.create_index("ix_run_mirror", "run", ["mirror", "created_at"], unique=False)
    op.create_index(
        "ix_run_parent",
        "run",
        ["parent_run_id"],
        unique=False,
        sqlite_where=sa.text("parent_run_id IS NOT NULL"),
        postgresql_where=sa.text("parent_run_id IS NOT NULL"),
    )
    op.create_index("ix_run_state", "run", ["state", "created_at"], unique=False)
    op.create_index("ix_run_subject", "run", ["subject_ref", "created_at"], unique=False)
    op.create_index(
        "ix_run_waits_for",
        "run",
        ["waits_for"],
        unique=False,
        sqlite_where=sa.text("waits_for IS NOT NULL"),
        postgresql_where=sa.text("waits_for IS NOT NULL"),
    )
    op.create_table(
        "effect",
        sa.Column("effect_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("capability", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("doubt", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("call_deadline", sa.Text(), nullable=True),
        sa.Column("first_attempt_at", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.run_id"],
        ),
        sa.PrimaryKeyConstraint("effect_id"),
    )
    op.create_index(op.f("ix_effect_run_id"), "effect", ["run_id"], unique=False)
    op.create_index(op.f("ix_effect_state"), "effect", ["state"], unique=False)
    op.create_table(
        "question",
        sa.Column("question_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Text(), nullable=True),
        sa.Column("overdue_at", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.Text(), nullable=True),
        sa.Column("answer_event", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.run_id"],
        ),
        sa.PrimaryKeyConstraint("question_id"),
    )
    op.create_index(op.f("ix_question_run_id"), "question", ["run_id"], unique=False)
    for name, column, waiting in (
        ("ix_question_open", "asked_at", "answered_at IS NULL"),
        ("ix_question_due", "due_at", "answered_at IS NULL AND overdue_at IS NULL"),
    ):
        where = sa.text(waiting)
        op.create_index(name, "question", [column], unique=False, sqlite_where=where, postgresql_where=where)
