from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.intake.reading import read_mail


def why_automatic(header: str) -> str:
    raw = f"{header}\n\nhello".encode()
    if "\nFrom:" not in f"\n{header}":
        raw = b"From: Ann <ann@example.com>\n" + raw
    return read_mail(
        raw,
        delivery="d-1",
        received_at=datetime(2025, 3, 4, tzinfo=UTC),
        own_addresses=frozenset({"support@example.org"}),
        own_message_id_domains=frozenset({"mail.example.org"}),
    ).automatic


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("Message-ID: <e-1@Mail.example.org>\nAuto-Submitted: auto-replied", "our own mail"),
        ("From: Support <Support@example.org>", "our own address"),
        ("From: ann@example.com, support@example.org", "our own address"),
        (
            "Content-Type: multipart/report; report-type=delivery-status\nAuto-Submitted: auto-replied",
            "delivery report",
        ),
        ("Content-Type: MULTIPART/Report", "delivery report"),
        ("Content-Type: multipart/report; report-type=disposition-notification", "read receipt"),
        ("Content-Type: message/delivery-status", "delivery report"),
        ("X-Failed-Recipients: ann@example.com", "delivery report"),
        ("From: <MAILER-DAEMON@example.com>\nReturn-Path: <>", "delivery report"),
        ("Return-Path: <MAILER-DAEMON>", "delivery report"),
        ("Auto-Submitted: auto-generated", "auto-submitted"),
        ("AUTO-SUBMITTED: (vacation) auto-replied; owner=ann", "auto-submitted"),
        ("Auto-Submitted: no\nAuto-Submitted: auto-notified", "auto-submitted"),
        ("Auto-Submitted:", "auto-submitted"),
        ("Return-Path: <>", "null return path"),
        ("Return-Path:  < >", "null return path"),
        ("From: postmaster@example.com", "sender that takes no answers"),
        ("From: Shop <No-Reply@example.com>", "sender that takes no answers"),
        ("From: do_not_reply@example.com", "sender that takes no answers"),
        ("From: donotreply@example.com", "sender that takes no answers"),
        ("From: noreply-123@example.com", "sender that takes no answers"),
        ("From: orders.noreply@example.com", "sender that takes no answers"),
        ("X-Auto-Response-Suppress: All", "automatic answers refused"),
        ("X-Auto-Response-Suppress: DR, RN, NRN, OOF, AutoReply", "automatic answers refused"),
        ("X-Autoreply: yes", "answering machine"),
        ("X-Autorespond: away", "answering machine"),
        ("X-Loop: ann@example.com", "loop header"),
        ("List-Id: News <news.example.com>", "mailing list"),
        ("List-Unsubscribe: <mailto:u@example.com>", "mailing list"),
        ("List-Id: <support.example.org>\nList-Id: <news.example.com>", "mailing list"),
        ("Precedence: Bulk", "bulk mail"),
        ("Precedence: list", "bulk mail"),
        ("Precedence: junk (mail)", "bulk mail"),
        ("List-Id: <support.example.org>\nPrecedence: bulk", "bulk mail"),
        ("Precedence: auto_reply", "bulk mail"),
    ],
)
def test_a_robot_is_recognised(header: str, reason: str) -> None:
    assert why_automatic(header) == reason


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: no",
        "Auto-Submitted: No (I typed it); by=hand",
        "Return-Path: <ann@example.com>",
        "Return-Path: <SRS0=abc=XY=example.com=ann@forwarder.example.org>",
        # A form on a web site writes in the customer's name.
        "Return-Path: <noreply@webhost.example.org>",
        "X-Auto-Response-Suppress: DR, RN, NRN",
        "X-Auto-Response-Suppress: None",
        "X-Autoreply: no",
        "Precedence: first-class",
        "Precedence: normal",
        "Importance: high\nX-Priority: 1\nDisposition-Notification-To: ann@example.com",
        "X-MS-Exchange-Inbox-Rules-Loop: ann@example.com\nX-MS-TNEF-Correlator:\nX-MS-Has-Attach: yes",
        "X-Google-Smtp-Source: AGHT\nX-Received: by 2002:a05:6512\nX-Gm-Message-State: AOJu0Yz",
        "X-Mailer: YahooMailAndroidMobile\nX-YMail-OSG: abc",
        "X-Forwarded-For: ann@example.com support@example.org\nX-Forwarded-To: support@example.org",
        "From: Anno Reply <anno.reply@example.com>",
        "From: Nora Plys <noraply@example.com>",
        "From: Post Master <post.masterson@example.com>",
        "From: bounce-castles@example.com",
        "Content-Type: multipart/alternative; boundary=x",
        "Message-ID: <x@mail.example.org.example.com>",
        # Our own address may be a group, through which every customer's mail comes.
        "List-ID: <support.example.org>\nPrecedence: list\nList-Unsubscribe: <mailto:x@example.org>",
    ],
)
def test_a_customer_is_not_taken_for_a_robot(header: str) -> None:
    assert why_automatic(header) == ""
