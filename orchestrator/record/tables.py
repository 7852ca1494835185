"""The tables, alike on SQLite and PostgreSQL. Moments are text as ``clock.stamp`` writes them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

audit_event = Table(
    "audit_event",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("chain_id", Text, nullable=False),
    Column("chain_seq", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("actor_auth", Text, nullable=False),
    Column("case_id", Text),
    Column("run_id", Text),
    Column("prefect_run_id", Text),
    Column("process", Text),
    Column("process_version", Text),
    Column("step", Integer),
    Column("capability", Text),
    Column("operation", Text),
    Column("connection", Text),
    Column("connector_version", Text),
    Column("effect_id", Text),
    Column("subject_ref", Text),
    Column("body", LargeBinary, nullable=False),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("chain_id", "chain_seq", name="uq_audit_event_chain"),
    Index("ix_audit_event_at", "at"),
)
"""Append-only, by code and by trigger. Every column but the hashes also stands in ``body``."""

audit_private = Table(
    "audit_private",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("commitment", Text, primary_key=True),
    Column("subject_ref", Text, nullable=False, index=True),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
)
"""The private values that event bodies hold commitments of. Deletable."""

news = Table(
    "news",
    metadata,
    Column("event_id", Text, ForeignKey("audit_event.event_id"), primary_key=True),
    Column("topic", Text, nullable=False, index=True),
)
"""Events that people are still to be notified of."""

subject_key = Table(
    "subject_key",
    metadata,
    Column("subject_ref", Text, primary_key=True),
    Column("lookup", Text, unique=True),
    Column("nonce", LargeBinary, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("created_at", Text, nullable=False),
)
"""One key a person, wrapped by the key file's key; ``lookup`` is a keyed hash of the address. Deletable."""

key_mark = Table(
    "key_mark",
    metadata,
    Column("name", Text, primary_key=True),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
)
"""One row that only the key file of this database opens."""

customer_case = Table(
    "customer_case",
    metadata,
    Column("case_id", Text, primary_key=True),
    Column("lookup", Text, nullable=False),
    Column("subject_ref", Text, nullable=False),
    Column("opened_at", Text, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("answered_at", Text),
    Column("closed_at", Text),
    Index(
        "uq_customer_case_open",
        "lookup",
        unique=True,
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
)

run = Table(
    "run",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("process", Text, nullable=False),
    Column("case_id", Text, ForeignKey("customer_case.case_id"), index=True),
    Column("subject_ref", Text, nullable=False),
    Column("parent_run_id", Text),
    Column("prefect_run_id", Text, unique=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("waits_for", Text),
    Column("created_at", Text, nullable=False),
    Column("due_at", Text, nullable=False),
    Column("ended_at", Text),
    Column("postponed", Integer, nullable=False, server_default="0"),
    Column("mirror", Text, nullable=False, server_default="none"),
    Column("mirror_after", Text),
    Column("cancelled_by", Text),
    Column("cancelled_by_auth", Text),
    Column("owner", Text),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("lease_until", Text),
    Column("until_clock", Text, nullable=False, server_default=""),
    Column("until_steady", BigInteger),
    Index("ix_run_created", "created_at"),
    Index("ix_run_due", "state", "due_at"),
    Index("ix_run_mirror", "mirror", "created_at"),
    Index(
        "ix_run_parent",
        "parent_run_id",
        sqlite_where=text("parent_run_id IS NOT NULL"),
        postgresql_where=text("parent_run_id IS NOT NULL"),
    ),
    Index("ix_run_state", "state", "created_at"),
    Index(
        "ix_run_waits_for",
        "waits_for",
        sqlite_where=text("waits_for IS NOT NULL"),
        postgresql_where=text("waits_for IS NOT NULL"),
    ),
    Index("ix_run_subject", "subject_ref", "created_at"),
)
"""``until_steady`` is the end of the lease, or when a run that waits is due, as the steady clock ``until_clock`` reads.

``deaths`` counts the owners that died since the run last got on.
"""

effect = Table(
    "effect",
    metadata,
    Column("effect_id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("run.run_id"), nullable=False, index=True),
    Column("step", Integer, nullable=False),
    Column("capability", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("connection", Text, nullable=False),
    Column("doubt", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("call_deadline", Text),
    Column("first_attempt_at", Text),
    Column("clock", Text, nullable=False, server_default=""),
    Column("clock_zero", Text, nullable=False, server_default=""),
    Column("updated_at", Text, nullable=False),
)
"""``clock_zero`` is when the steady clock ``clock`` read zero, by the wall clock that wrote the moments of the call."""

inbox = Table(
    "inbox",
    metadata,
    Column("delivery", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("source_key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("received_at", Text, nullable=False),
    Column("accepted_at", Text, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("proof", Text, nullable=False, server_default=""),
    Column("subject_ref", Text, nullable=False, index=True),
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),
    Column("vacuumed_at", Text),
    Column("vacuumed_by", Text),
    Column("state", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("run_id", Text, index=True),
    Column("case_id", Text),
    UniqueConstraint("source", "source_key", name="uq_inbox_source_key"),
    UniqueConstraint("source", "fingerprint", name="uq_inbox_fingerprint"),
    Index("ix_inbox_accepted", "accepted_at"),
    Index("ix_inbox_run", "run_id"),
    Index("ix_inbox_state", "state", "accepted_at"),
    Index(
        "ix_inbox_vacuum",
        "accepted_at",
        sqlite_where=text("vacuumed_at IS NULL"),
        postgresql_where=text("vacuumed_at IS NULL"),
    ),
)
"""Deliveries; the body is gone (``ciphertext`` is null) once ``vacuumed_at`` is set, by the rule ``vacuumed_by``.

``proof`` is what proves that the sender wrote the mail, as ``dmarc=pass``; empty if nothing does.
"""

intake_cursor = Table(
    "intake_cursor",
    metadata,
    Column("source", Text, primary_key=True),
    Column("cursor", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
)

automatic_answer = Table(
    "automatic_answer",
    metadata,
    Column("effect_id", Text, primary_key=True),
    Column("recipient", Text, nullable=False),
    Column("delivery", Text, nullable=False),
    Column("started_by", Text, nullable=False),
    Column("at", Text, nullable=False),
    Index("ix_automatic_answer_at", "started_by", "at"),
    Index("ix_automatic_answer_recipient", "recipient", "at"),
)
"""The last day's mails that went out without a person's word; ``recipient`` is a keyed hash of the address.

``started_by`` is what is counted together: ``answers`` to mails, ``acknowledgements`` of a process, both ``, unproven``
if nothing proves who wrote the mail, ``webhooks``, or ``prefect``, where ``delivery`` names the run.
"""

connection_state = Table(
    "connection_state",
    metadata,
    Column("connection", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Connections that do not work, and those that did not and work again."""

probe = Table(
    "probe",
    metadata,
    Column("connection", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("settings", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("misses", Integer, nullable=False),
    Column("seen_until", Text, nullable=False),
    Column("due_at", Text, nullable=False),
)
"""Whether the probe of an effect sees what was done; ``settings`` is a keyed hash of the connection's section.

``seen_until`` is the moment up to which effects need not be looked for any more, ``due_at`` that of the next look, and
``misses`` says how many looks in a row did not see an effect that is known to have happened.
"""

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("process", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("seen_at", Text, nullable=False),
)
"""Signs of life of our processes; each has one row."""

question = Table(
    "question",
    metadata,
    Column("question_id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("run.run_id"), nullable=False, index=True),
    Column("asked_at", Text, nullable=False),
    Column("due_at", Text),
    Column("overdue_at", Text),
    Column("answered_at", Text),
    Column("answer_event", Text),
    Index(
        "ix_question_open",
        "asked_at",
        sqlite_where=text("answered_at IS NULL"),
        postgresql_where=text("answered_at IS NULL"),
    ),
    Index(
        "ix_question_due",
        "due_at",
        sqlite_where=text("answered_at IS NULL AND overdue_at IS NULL"),
        postgresql_where=text("answered_at IS NULL AND overdue_at IS NULL"),
    ),
)
"""Questions to a person; the words of question and answer stand in the record, encrypted.

``overdue_at`` is when the deadline ``due_at`` was seen to have passed.
"""
