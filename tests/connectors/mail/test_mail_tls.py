"""TLS to both servers: from the first byte, after STARTTLS, and never with a certificate that is not trusted."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied, Unavailable
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.faults import FaultProxy
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings

SHOP = "support@shop.example"
MAIL = OutgoingMail(to=SHOP, subject="Your download", text="Here is your link.")
Security = Literal["tls", "starttls"]


class Authority(NamedTuple):
    ca_file: Path
    server: ssl.SSLContext


def self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(self_signed(key).public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key_file)
    return Authority(certificate, server)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[MailServer]:
    with MailServer({SHOP: "shop"}, auth_required=True, tls=authority.server) as running:
        yield running


def account(
    ports: tuple[int, int], security: Security, ca_file: Path | None, *, host: str = "127.0.0.1", timeout: float = 5
) -> MailAccount:
    smtp = SmtpSettings(host=host, port=ports[0], security=security, ca_file=ca_file, username=SHOP, password="shop")
    imap = ImapSettings(
        host=host,
        port=ports[1],
        security=security,
        ca_file=ca_file,
        username=SHOP,
        password="shop",
        sent_folder="Sent",
    )
    return MailAccount(MailSettings(address=SHOP, smtp=smtp, imap=imap, timeout_seconds=timeout))


def ports_for(server: MailServer, security: Security) -> tuple[int, int]:
    return (server.smtps_port, server.imaps_port) if security == "tls" else (server.smtp_port, server.imap_port)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_mail_goes_out_and_comes_in_over_tls(server: MailServer, authority: Authority, security: Security) -> None:
    mailbox = account(ports_for(server, security), security, authority.ca_file)
    position = mailbox.position()
    sent = [mailbox.send(MAIL, effect_id=f"{security}-{number}") for number in range(2)]
    page = mailbox.new_mail(position, limit=10)
    assert len(page.mails) == 2
    assert mailbox.find_sent(f"{security}-1") == sent[1]
    assert mailbox.check().startswith("SMTP server 127.0.0.1")


@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize("operation", ["send", "position"])
def test_a_certificate_that_is_not_trusted_is_refused(server: MailServer, security: Security, operation: str) -> None:
    mailbox = account(ports_for(server, security), security, None)
    with pytest.raises(AccessDenied, match="certificate that is not trusted") as caught:
        mailbox.send(MAIL) if operation == "send" else mailbox.position()
    assert caught.value.no_effect is True


@pytest.mark.parametrize("operation", ["send", "position"])
def test_a_certificate_for_another_host_is_refused(server: MailServer, authority: Authority, operation: str) -> None:
    mailbox = account(ports_for(server, "tls"), "tls", authority.ca_file, host="localhost")
    with pytest.raises(AccessDenied, match="certificate that is not trusted"):
        mailbox.send(MAIL) if operation == "send" else mailbox.position()


@pytest.mark.parametrize("operation", ["send", "position"])
def test_a_server_without_starttls_gets_no_login(operation: str) -> None:
    with MailServer({SHOP: "shop"}) as plain:
        mailbox = account((plain.smtp_port, plain.imap_port), "starttls", None)
        with pytest.raises(AccessDenied, match="STARTTLS"):
            mailbox.send(MAIL) if operation == "send" else mailbox.position()


@pytest.mark.parametrize("operation", ["send", "position"])
def test_tls_to_a_server_that_does_not_begin_with_it_is_unavailable(server: MailServer, operation: str) -> None:
    mailbox = account((server.smtp_port, server.imap_port), "tls", None)
    with pytest.raises(Unavailable):
        mailbox.send(MAIL) if operation == "send" else mailbox.position()


@pytest.mark.parametrize("operation", ["send", "position"])
def test_the_total_time_holds_within_the_handshake(server: MailServer, authority: Authority, operation: str) -> None:
    handshake = b"\x16\x03\x01"  # the first bytes of a ClientHello
    port = server.smtps_port if operation == "send" else server.imaps_port
    with FaultProxy("127.0.0.1", port) as proxy:
        proxy.trickle_answer(after=handshake, pause=0.05)
        mailbox = account((proxy.port, proxy.port), "tls", authority.ca_file, timeout=0.4)
        with pytest.raises(Unavailable, match="longer than timeout_seconds"):
            mailbox.send(MAIL) if operation == "send" else mailbox.position()
        assert not proxy.pending
