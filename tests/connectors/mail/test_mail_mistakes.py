"""What somebody may write wrongly into a mail account's section, and what `orchestrator check` says to change."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Unavailable
from orchestrator.sandbox.mail_server import MailServer
from orchestrator_connectors.mail import MailAccount, MailSettings
from tests.support.certificates import authority
from tests.support.scripted_smtp import SHOP, mailer, scripted

SECTIONS = pytest.mark.parametrize("section", ["smtp", "imap"])


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MailServer, Path]]:
    ca_file, tls = authority(tmp_path_factory.mktemp("authority"))
    with MailServer({SHOP: "shop"}, auth_required=True, tls=tls) as running:
        yield running, ca_file


@pytest.fixture(scope="module")
def server(certified: tuple[MailServer, Path]) -> MailServer:
    return certified[0]


def check(server: MailServer, *, timeout_seconds: float = 30, **wrong: dict[str, Any]) -> str:
    """Check an account whose sections are right, but for what is given."""
    common = {"host": "127.0.0.1", "security": "plain", "username": SHOP, "password": "shop"}
    smtp = common | {"port": server.smtp_port} | wrong.get("smtp", {})
    imap = common | {"port": server.imap_port} | wrong.get("imap", {})
    given = {"address": SHOP, "smtp": smtp, "imap": imap, "timeout_seconds": timeout_seconds}
    return MailAccount(MailSettings.model_validate(given)).check()


def told(server: MailServer, *, timeout_seconds: float = 30, **wrong: dict[str, Any]) -> tuple[type, str]:
    with pytest.raises(ConnectorError) as caught:
        check(server, timeout_seconds=timeout_seconds, **wrong)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert not {"shop.example", "wrong-password"} & set(said.replace(",", " ").split())
    assert next(iter(wrong)).upper() in said, "it names the server that is meant"
    return type(caught.value), said


def test_what_is_right_is_told_in_one_line(server: MailServer) -> None:
    assert len(check(server).splitlines()) == 1


@SECTIONS
def test_a_wrong_host(server: MailServer, section: str) -> None:
    kind, said = told(server, **{section: {"host": "no-such-host.invalid", "security": "tls"}})
    assert (kind, f"there is no such host, correct {section}.host" in said) == (Unavailable, True), said


@SECTIONS
def test_a_port_at_which_nobody_listens(server: MailServer, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    kind, said = told(server, **{section: {"port": port}})
    assert kind is Unavailable
    assert said.endswith(f"nobody listens there, correct {section}.host or {section}.port")


@SECTIONS
def test_the_port_of_another_protocol(server: MailServer, section: str) -> None:
    port = server.imap_port if section == "smtp" else server.smtp_port
    kind, said = told(server, **{section: {"port": port}})
    assert kind is Unavailable
    assert said.endswith(f"does not greet as {section.upper()} servers do, correct {section}.host or {section}.port")


@contextmanager
def unreachable() -> Iterator[int]:
    """Give a port that takes no connection and refuses none, as behind a firewall: its queue is full."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@SECTIONS
def test_a_host_that_cannot_be_reached(server: MailServer, section: str) -> None:
    with unreachable() as port:
        kind, said = told(server, timeout_seconds=0.3, **{section: {"port": port}})
    assert kind is Unavailable
    assert said.endswith(
        f"nothing comes back from there, correct {section}.host or {section}.port, or open the firewall"
    )


@SECTIONS
def test_tls_where_the_server_begins_without(server: MailServer, section: str) -> None:
    kind, said = told(server, **{section: {"security": "tls"}})
    assert kind is Unavailable
    assert said.endswith(f'it does not begin with TLS, write {section}.security = "starttls" or correct {section}.port')


@SECTIONS
@pytest.mark.parametrize("security", ["starttls", "plain"])
def test_no_tls_where_the_server_begins_with_it(server: MailServer, section: str, security: str) -> None:
    port = server.smtps_port if section == "smtp" else server.imaps_port
    kind, said = told(server, timeout_seconds=0.3, **{section: {"port": port, "security": security}})
    assert kind is Unavailable
    assert said.endswith(f'it begins with TLS, write {section}.security = "tls" or correct {section}.port')


@SECTIONS
def test_starttls_where_the_server_has_none(section: str) -> None:
    with MailServer({SHOP: "shop"}, auth_required=True) as bare:
        kind, said = told(bare, **{section: {"security": "starttls"}})
    assert kind is AccessDenied
    assert f"{section}.security" in said


@SECTIONS
@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_certificate_of_an_unknown_authority(server: MailServer, section: str, security: str) -> None:
    at_once = server.smtps_port if section == "smtp" else server.imaps_port
    port = {"port": at_once} if security == "tls" else {}
    kind, said = told(server, **{section: {"security": security} | port})
    assert kind is AccessDenied
    assert f"(self-signed certificate): correct {section}.host or set {section}.ca_file" in said


@SECTIONS
def test_a_certificate_with_another_name(certified: tuple[MailServer, Path], section: str) -> None:
    server, ca_file = certified
    port = server.smtps_port if section == "smtp" else server.imaps_port
    kind, said = told(server, **{section: {"host": "localhost", "port": port, "security": "tls", "ca_file": ca_file}})
    assert kind is AccessDenied
    assert "Hostname mismatch" in said
    assert f"correct {section}.host" in said


@SECTIONS
def test_a_wrong_password(server: MailServer, section: str) -> None:
    kind, said = told(server, **{section: {"password": "wrong-password"}})
    assert kind is AccessDenied
    assert said.endswith(f"correct {section}.username and {section}.password")


@pytest.mark.parametrize("setting", ["folder", "sent_folder"])
def test_a_folder_that_does_not_exist(server: MailServer, setting: str) -> None:
    kind, said = told(server, imap={setting: "Nowhere"})
    assert kind is AccessDenied
    assert said.endswith(f"does not open the folder 'Nowhere': correct imap.{setting}; there are: INBOX, Sent")


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        ("MAIL", "550 5.7.1 not you"),
        ("MAIL", "553 not you"),
        ("RCPT", "553 5.7.1 Sender address rejected: not owned by user"),
        ("RCPT", "550 5.7.1 Unable to relay"),
    ],
)
def test_no_permission_to_send_as_that_address(stage: str, answer: str) -> None:
    with scripted(**{stage: answer}) as port, pytest.raises(AccessDenied) as caught:
        mailer(port).check()
    assert str(caught.value).endswith("this account must be allowed to send as 'address', or 'address' must be its own")


@pytest.mark.parametrize("answer", ["550 5.1.1 no such mailbox", "450 4.2.0 greylisted", "250 ok"])
def test_an_address_that_takes_no_mail_may_send(answer: str) -> None:
    with scripted(RCPT=answer, DATA="554 nothing is sent") as port:
        assert "answers" in mailer(port).check()


def test_a_server_that_asks_to_slow_down_is_not_examined() -> None:
    with scripted(MAIL="450 4.7.1 too much mail") as port:
        smtp = {"host": "127.0.0.1", "port": port, "security": "plain"}
        account = MailAccount(MailSettings.model_validate({"address": SHOP, "smtp": smtp}))
        with pytest.raises(RateLimited):
            account.check()


def test_a_server_that_failed_by_itself_needs_no_change() -> None:
    with scripted(MAIL="451 4.3.0 local error") as port:
        smtp = {"host": "127.0.0.1", "port": port, "security": "plain"}
        account = MailAccount(MailSettings.model_validate({"address": SHOP, "smtp": smtp}))
        with pytest.raises(Unavailable) as caught:
            account.check()
    assert str(caught.value).endswith("refuses with 451, for now")
