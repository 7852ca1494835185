"""What an SMTP server's answers mean, and every exception of the library."""

from __future__ import annotations

import smtplib
import socket
import ssl

import pytest

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Rejected, Unavailable
from orchestrator_connectors.mail.smtp import translated
from tests.support.scripted_smtp import SHOP, mailer, scripted

ANN = "ann@example.com"
GOES_DOWN = ("421 going down", "421 4.3.2 system not accepting messages", "421 4.4.2 timeout", "421 4.4.5 server busy")
MAIL = OutgoingMail(to=ANN, subject="Your download", text="Here is your link.")


def failure(port: int) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        mailer(port).send(MAIL, effect_id="effect-1")
    assert caught.value.__cause__ is not None
    assert "@" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("stage", "answer", "error"),
    [
        ("", "421 busy", Unavailable),
        ("", "554 go away", AccessDenied),
        ("", "nonsense", Unavailable),
        ("MAIL", "451 later", Unavailable),
        ("MAIL", "530 log in first", AccessDenied),
        ("MAIL", "550 not you", AccessDenied),
        ("MAIL", "552 too large", Rejected),
        ("RCPT", "450 greylisted <ann@example.com>", Unavailable),
        ("RCPT", "550 no such user <ann@example.com>", Rejected),
        ("RCPT", "530 log in first", AccessDenied),
        ("DATA", "451 later", Unavailable),
        ("DATA", "554 no", Rejected),
        ("DATA", "250 what", Unavailable),
        ("", "421 4.7.0 too many connections", RateLimited),
        ("MAIL", "450 4.7.1 too much mail", RateLimited),
        ("MAIL", "421 4.4.5 server busy", RateLimited),
        ("MAIL", "550 5.4.5 daily user sending limit exceeded", RateLimited),
        ("RCPT", "451 4.7.1 greylisted", RateLimited),
        (".", "454 Throttling failure: Maximum sending rate exceeded.", RateLimited),
        (".", "421 4.7.28 unusual rate", RateLimited),
        (".", "421 4.7.0 try again later", RateLimited),
        (".", "554 5.2.252 SendAsDenied; not allowed", AccessDenied),
        (".", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", AccessDenied),
        (".", "451 later", Unavailable),
        (".", "554 spam", Rejected),
        *((stage, None, Unavailable) for stage in ("", "EHLO", "MAIL", "RCPT", "DATA")),
    ],
)
def test_a_definite_refusal_has_no_effect(stage: str, answer: str | None, error: type[ConnectorError]) -> None:
    with scripted(**{stage: answer}) as port:
        failed = failure(port)
    assert type(failed) is error
    assert failed.no_effect is True


def test_a_server_that_refuses_every_greeting_needs_a_person() -> None:
    with scripted(EHLO="550 no", HELO="550 no") as port:
        assert type(failure(port)) is AccessDenied


@pytest.mark.parametrize("answer", [None, "", "hello", "354 more", "25", "99 x", "250" * 9000, *GOES_DOWN])
def test_no_definite_answer_to_the_end_of_the_mail_is_a_doubt(answer: str | None) -> None:
    with scripted(**{".": answer}) as port:
        failed = failure(port)
    assert type(failed) is Unavailable
    assert failed.no_effect is False


def test_a_login_other_than_plain_is_used_if_the_server_wants_it() -> None:
    steps = {"EHLO": "250-hello\r\n250 AUTH LOGIN", "AUTH": "334 UGFzc3dvcmQ6", "C2HVCA==": "235 in"}
    with scripted(**steps) as port:
        sender = mailer(port, username="shop", password="shop")
        assert sender.send(MAIL, effect_id="effect-1").reference == "<effect-1@shop.example>"
        with pytest.raises(AccessDenied, match="ASCII"):
            mailer(port, username="shop", password="pässwörd").send(MAIL)


CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")
CERTIFICATE.verify_message = "self-signed certificate"
MAPPING: dict[type[Exception], tuple[Exception, type[ConnectorError]]] = {
    smtplib.SMTPException: (smtplib.SMTPException("No suitable authentication method found."), Unavailable),
    smtplib.SMTPNotSupportedError: (smtplib.SMTPNotSupportedError("STARTTLS is not supported"), AccessDenied),
    smtplib.SMTPServerDisconnected: (smtplib.SMTPServerDisconnected("Connection unexpectedly closed"), Unavailable),
    smtplib.SMTPResponseException: (smtplib.SMTPResponseException(550, b"no"), Rejected),
    smtplib.SMTPSenderRefused: (smtplib.SMTPSenderRefused(550, b"no", SHOP), AccessDenied),
    smtplib.SMTPRecipientsRefused: (smtplib.SMTPRecipientsRefused({ANN: (550, b"no")}), Unavailable),
    smtplib.SMTPDataError: (smtplib.SMTPDataError(554, b"no"), Rejected),
    smtplib.SMTPConnectError: (smtplib.SMTPConnectError(554, b"no"), AccessDenied),
    smtplib.SMTPHeloError: (smtplib.SMTPHeloError(550, b"no"), AccessDenied),
    smtplib.SMTPAuthenticationError: (smtplib.SMTPAuthenticationError(535, b"no"), AccessDenied),
    TimeoutError: (TimeoutError("timed out"), Unavailable),
    ConnectionResetError: (ConnectionResetError(104, "Connection reset by peer"), Unavailable),
    socket.gaierror: (socket.gaierror(-2, "Name or service not known"), Unavailable),
    ssl.SSLError: (ssl.SSLError(1, "wrong version number"), Unavailable),
    ssl.SSLCertVerificationError: (CERTIFICATE, AccessDenied),
    UnicodeEncodeError: (UnicodeEncodeError("ascii", "ä", 0, 1, "not in range"), AccessDenied),
}


def test_every_exception_of_the_library_is_known() -> None:
    own = {kind for kind in vars(smtplib).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert own <= set(MAPPING)


@pytest.mark.parametrize(("exception", "error"), MAPPING.values(), ids=lambda value: getattr(value, "__name__", None))
def test_an_exception_before_the_end_of_the_mail_has_no_effect(
    exception: Exception, error: type[ConnectorError]
) -> None:
    translation = translated(exception, place="mail.example.com:465")
    assert (type(translation), translation.no_effect) == (error, True)
    assert "mail.example.com:465" in str(translation)
    assert "@" not in str(translation)


@pytest.mark.parametrize("kind", [smtplib.SMTPAuthenticationError, smtplib.SMTPConnectError, smtplib.SMTPHeloError])
def test_a_temporary_refusal_is_tried_again(kind: type[smtplib.SMTPResponseException]) -> None:
    assert type(translated(kind(454, b"4.7.0 later"), place="mail.example.com:465")) is Unavailable


def test_a_connection_that_rested_too_long_for_the_server_is_replaced() -> None:
    with scripted(later={2: "421 closing"}) as port:
        sender = mailer(port)
        for number in range(3):
            assert sender.send(MAIL, effect_id=f"effect-{number}").reference


def test_a_refusal_on_a_kept_connection_is_a_refusal() -> None:
    with scripted(later={2: "552 too large"}) as port:
        sender = mailer(port)
        sender.send(MAIL, effect_id="effect-1")
        with pytest.raises(Rejected):
            sender.send(MAIL, effect_id="effect-2")
        assert sender.send(MAIL, effect_id="effect-3").reference
