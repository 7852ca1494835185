"""Mistakes in a mail account's settings are caught, with words that say what to write instead."""

from __future__ import annotations

import re
from email.headerregistry import Address
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.capabilities import Mailbox, Mailer, Notifier
from orchestrator.plugins import Connector, DoubtClass
from orchestrator.settings import MailboxSettings
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings, register_connectors
from tests.support.paths import ROOT

SMTP = {"host": "smtp.shop.example", "username": "shop", "password": "the-smtp-secret"}
IMAP = {"host": "imap.shop.example", "username": "shop", "password": "the-imap-secret"}
WHOLE = {"address": "Our Shop <support@shop.example>", "smtp": SMTP, "imap": IMAP}


def settings(**changes: Any) -> MailSettings:
    return MailSettings.model_validate(WHOLE | changes)


def test_what_is_left_out_is_set_as_providers_do() -> None:
    made = settings()
    assert made.imap is not None
    assert (made.smtp.port, made.smtp.security) == (465, "tls")
    assert (made.imap.port, made.imap.security, made.imap.folder, made.imap.sent_folder) == (993, "tls", "INBOX", None)
    assert (made.timeout_seconds, made.max_size_bytes, made.visibility_delay_seconds) == (30, 25 * 1024 * 1024, 60)
    assert made.sender == Address("Our Shop", "support", "shop.example")
    assert made.id_domain == "shop.example"
    assert settings(message_id_domain="mail.shop.example").id_domain == "mail.shop.example"


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"address": "support"}, 'write one address, for example "support@shop.example"'),
        ({"address": ""}, "write one address"),
        ({"address": "a@shop.example, b@shop.example"}, "write one address"),
        ({"address": "a@shop.example\r\nBcc: b@shop.example"}, "write one address"),
        ({"address": "ännchen@shop.example"}, "write one address"),
        ({"message_id_domain": "shop example"}, 'write a domain name, for example "shop.example"'),
        ({"smtp": SMTP | {"host": "smtps://smtp.shop.example"}}, "write the host's name alone"),
        ({"smtp": SMTP | {"host": "smtp.shop.example:465"}}, "the port has a field of its own"),
        ({"smtp": SMTP | {"host": ""}}, "write the host's name alone"),
        ({"smtp": SMTP | {"security": "starttls"}}, 'write security = "tls", or port = 587'),
        ({"smtp": SMTP | {"port": 587}}, 'write security = "starttls", or port = 465'),
        ({"imap": IMAP | {"security": "starttls"}}, 'write security = "tls", or port = 143'),
        ({"imap": IMAP | {"port": 143}}, 'write security = "starttls", or port = 993'),
        ({"smtp": SMTP | {"port": 25, "security": "plain"}}, "the password would travel unprotected"),
        ({"imap": IMAP | {"port": 143, "security": "plain"}}, "the password would travel unprotected"),
        ({"smtp": {"host": "smtp.shop.example", "username": "shop"}}, "smtp.username needs either smtp.password, or"),
        ({"smtp": {"host": "smtp.shop.example", "password": "x"}}, "username and password belong together"),
        ({"smtp": SMTP | {"password": "two\r\nlines"}}, "write one line of visible characters"),
        ({"smtp": SMTP | {"password": ""}}, "write one line of visible characters"),
        ({"imap": IMAP | {"folder": "A\r\nB"}}, "write one line of visible characters"),
        ({"imap": IMAP | {"sent_folder": "INBOX"}}, "we would answer ourselves"),
        (
            {"smtp": {"host": "127.0.0.1", "port": 25, "security": "plain", "ca_file": __file__}},
            "ca_file has no meaning",
        ),
        ({"smtp": SMTP | {"ca_file": "/nowhere.pem"}}, "Path does not point to a file"),
        ({"timeout_seconds": 0}, "greater than 0"),
        ({"smpt": SMTP}, "Extra inputs are not permitted"),
        ({"smtp": SMTP | {"user": "shop"}}, "Extra inputs are not permitted"),
    ],
)
def test_a_mistake_is_explained(changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**changes)
    assert remedy in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_a_server_on_this_computer_needs_no_tls(host: str) -> None:
    made = settings(
        smtp=SMTP | {"host": host, "port": 2525, "security": "plain"},
        imap=IMAP | {"host": host, "port": 1143, "security": "plain"},
    )
    assert made.smtp.host == host


def test_a_printed_account_shows_no_password() -> None:
    assert "secret" not in repr(settings())


def test_settings_are_frozen(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    made = settings(smtp=SMTP | {"ca_file": ca_file})
    with pytest.raises(ValidationError, match="frozen"):
        made.smtp.host = "other"  # type: ignore[misc]


def test_the_plug_in_offers_one_connector_for_all_its_ways() -> None:
    offered: list[Connector[Any]] = []

    def register(connector: Connector[Any]) -> None:
        offered.append(connector)

    register_connectors(register)
    (mail,) = offered
    assert (mail.name, mail.provides) == ("mail", (Mailer, Mailbox, Notifier))
    assert (mail.settings, mail.build) == (MailSettings, MailAccount)


def test_an_account_is_built_without_a_connection() -> None:
    account = MailAccount(settings(smtp=SMTP | {"host": "does-not-exist.invalid"}))
    assert account.settlements["send"].doubt is DoubtClass.NONE


def test_the_manual_names_every_setting() -> None:
    manual = (ROOT / "docs" / "mail.md").read_text().partition("## Taking mail in")[0]
    cells = [line.split("|")[1] for line in manual.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)`", " ".join(cells)))
    models = (MailSettings, SmtpSettings, ImapSettings, MailboxSettings)
    assert named == {name for model in models for name in model.model_fields}
