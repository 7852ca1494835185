"""What becomes of a call when Gmail, or the way to it, does not do what it should."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Rejected, Unavailable
from orchestrator.sandbox.gmail import GmailBox, GmailServer, refusal
from orchestrator.testing.contracts.mailbox import letter
from orchestrator.testing.http_server import Answer, Break, Fault
from orchestrator.toolkit.deadline import call_limited
from orchestrator_connectors.gmail import GmailAccount
from tests.support.certificates import authority
from tests.support.gmail_account import ANN, SHOP, account, granted
from tests.support.slow_reader import LARGE, slow_reader

MAIL = OutgoingMail(to=ANN, subject="Your download", text="Here it is.")
ANSWER = MAIL.model_copy(update={"in_reply_to": "<question@mail.example.com>"})


@pytest.fixture
def server() -> Iterator[GmailServer]:
    with GmailServer(GmailBox(SHOP)) as running:
        yield running


@pytest.fixture
def gmail(server: GmailServer, tmp_path: Path) -> GmailAccount:
    connected = account(server, tmp_path / "token")
    connected.position()  # imports Google's client and gets an access token, so that a short time-out is fair
    server.calls.clear()
    return connected


def raised_by(call: Callable[[], object]) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        call()
    printed = "".join(traceback.format_exception(caught.value))
    assert ANN not in printed
    assert "question@mail" not in printed
    assert "ya29." not in printed
    assert "1//" not in printed
    return caught.value


def test_the_last_byte_of_a_mail_is_not_sent_once_the_time_is_over(server: GmailServer, tmp_path: Path) -> None:
    mail = MAIL.model_copy(update={"text": "x" * LARGE})
    with slow_reader() as reader:
        connected = account(server, tmp_path / "token", endpoint_url=reader.url, timeout_seconds=20)
        with call_limited(reader.left):
            raised = raised_by(lambda: connected.send(mail, effect_id="effect-1"))
    assert (type(raised), raised.no_effect) == (Unavailable, False)
    assert b"POST" in reader.received
    assert not reader.received.endswith(b"}")


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (refusal(400, "badRequest"), Rejected, "400 badRequest the recipient"),
        (refusal(400, "failedPrecondition", "Precondition check failed."), AccessDenied, "domain-wide delegation"),
        (refusal(403, "insufficientPermissions"), AccessDenied, "https://www.googleapis.com/auth/gmail.send"),
        (refusal(403, "accessNotConfigured"), AccessDenied, "enable the Gmail API"),
        (refusal(403, "domainPolicy"), AccessDenied, "the domain's administrator"),
        (refusal(403, "delegationDenied"), AccessDenied, "another account"),
        (refusal(403, "forbidden"), AccessDenied, "what the account and its client may do"),
        (refusal(403, "rateLimitExceeded"), RateLimited, "slow down"),
        (refusal(403, "userRateLimitExceeded"), RateLimited, "slow down"),
        (refusal(403, "dailyLimitExceeded"), RateLimited, "slow down"),
        (refusal(429, "userRateLimitExceeded"), RateLimited, "slow down"),
        (refusal(413, "uploadTooLarge"), Rejected, "413"),
        (Answer(403, b"<html>ann@example.com</html>"), AccessDenied, "403: check"),
    ],
)
def test_a_refusal_has_no_effect_and_says_what_to_do(
    server: GmailServer, gmail: GmailAccount, answer: Answer, error: type, words: str
) -> None:
    server.fail_next(Fault(answer=answer), on="messages.send")
    raised = raised_by(lambda: gmail.send(MAIL, effect_id="effect-1"))
    assert type(raised) is error
    assert raised.no_effect
    assert words in str(raised)
    assert server.calls == ["messages.send"]


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (refusal(429, "rateLimitExceeded", Retry_After="17"), 17),
        (refusal(429, "rateLimitExceeded", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (refusal(403, "userRateLimitExceeded"), None),
        (refusal(429, "userRateLimitExceeded", "Limit exceeded.  Retry after 2020-01-01T00:00:00.000Z"), 0),
    ],
)
def test_gmail_is_asked_again_when_it_says(
    server: GmailServer, gmail: GmailAccount, answer: Answer, seconds: int | None
) -> None:
    server.fail_next(Fault(answer=answer), on="messages.send")
    raised = raised_by(lambda: gmail.send(MAIL))
    assert isinstance(raised, RateLimited)
    assert raised.retry_after == (None if seconds is None else timedelta(seconds=seconds))


def test_a_time_in_gmails_words_is_waited_for(server: GmailServer, gmail: GmailAccount) -> None:
    until = (datetime.now(UTC) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    server.fail_next(Fault(answer=refusal(429, "rateLimitExceeded", f"Retry after {until}")), on="messages.send")
    raised = raised_by(lambda: gmail.send(MAIL))
    assert isinstance(raised, RateLimited)
    assert raised.retry_after is not None
    assert timedelta(hours=1) < raised.retry_after <= timedelta(hours=2)


LOST = {
    "acted, connection reset": Fault(acts=True),
    "acted, connection closed": Fault(acts=True, breaks=Break.CLOSE),
    "connection reset": Fault(),
    "connection closed": Fault(breaks=Break.CLOSE),
    "acted, no HTTP answered": Fault(acts=True, breaks=Break.NONSENSE),
    "answered that it failed": Fault(answer=refusal(503, "backendError")),
    "acted, and answered that it failed": Fault(acts=True, answer=refusal(500, "backendError")),
    "acted, and asked to come back later": Fault(acts=True, answer=refusal(503, "backendError", Retry_After="7")),
    "answered with something else": Fault(acts=True, answer=Answer(200, b"<html>")),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST.keys())
def test_a_mail_without_a_definite_answer_is_in_doubt_and_sent_once(
    server: GmailServer, gmail: GmailAccount, fault: Fault
) -> None:
    server.fail_next(fault, on="messages.send")
    raised = raised_by(lambda: gmail.send(MAIL, effect_id="effect-1"))
    assert type(raised) is Unavailable
    assert raised.no_effect is False
    assert server.calls == ["messages.send"], "the client must not send it again by itself"
    assert len(server.box.mails) == fault.acts
    found = gmail.find_sent("effect-1")
    assert (found is not None) == fault.acts


def test_a_mail_that_is_answered_by_a_redirect_is_in_doubt_and_says_what_to_do(
    server: GmailServer, gmail: GmailAccount
) -> None:
    elsewhere = Answer(302, b"", {"Location": "https://elsewhere.example/"})
    server.fail_next(Fault(acts=True, answer=elsewhere), on="messages.send")
    raised = raised_by(lambda: gmail.send(MAIL, effect_id="effect-1"))
    assert (type(raised), raised.no_effect) == (AccessDenied, False)
    assert "correct endpoint_url" in str(raised)


@pytest.mark.parametrize(
    "fault", [Fault(breaks=Break.SILENCE), Fault(breaks=Break.DRIP), Fault(acts=True, breaks=Break.SILENCE)]
)
def test_the_time_is_total_and_a_mail_that_went_out_is_in_doubt(
    server: GmailServer, tmp_path: Path, fault: Fault
) -> None:
    account(server, tmp_path / "token").position()
    hasty = account(server, tmp_path / "token", timeout_seconds=1)
    server.fail_next(fault, on="messages.send")
    raised = raised_by(lambda: hasty.send(MAIL, effect_id="effect-1"))
    assert type(raised) is Unavailable
    assert raised.no_effect is False
    assert "longer than timeout_seconds" in str(raised)


def test_no_search_no_address_and_no_token_stands_in_the_log(
    server: GmailServer, gmail: GmailAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail_next(Fault(answer=refusal(500, "backendError")), on="messages.list")
    raised_by(lambda: gmail.send(ANSWER))
    server.consents.forget_access()
    gmail.send(ANSWER)
    assert [canary for canary in (ANN, "question@mail", "ya29.", "1//") if canary in caplog.text] == []


@pytest.mark.parametrize("fault", [Fault(breaks=each) for each in Break])
def test_what_fails_before_the_mail_goes_out_has_no_effect(server: GmailServer, tmp_path: Path, fault: Fault) -> None:
    account(server, tmp_path / "token").position()
    hasty = account(server, tmp_path / "token", timeout_seconds=0.3)
    server.fail_next(fault, on="messages.list")  # the search for the thread that it answers
    raised = raised_by(lambda: hasty.send(ANSWER, effect_id="effect-1"))
    assert type(raised) is Unavailable
    assert raised.no_effect
    assert "messages.send" not in server.calls


def test_a_server_that_is_not_there_has_no_effect(gmail: GmailAccount, server: GmailServer, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        raised = raised_by(lambda: account(server, tmp_path / "token", endpoint_url=url).send(MAIL))
    assert type(raised) is Unavailable
    assert raised.no_effect
    assert "cannot be reached" in str(raised)


def test_a_certificate_is_checked_and_can_be_trusted(tmp_path: Path) -> None:
    trusted, tls = authority(tmp_path)
    with GmailServer(GmailBox(SHOP), tls=tls) as server:
        granted(server, tmp_path / "token")
        stranger = account(server, tmp_path / "token")
        raised = raised_by(lambda: stranger.send(MAIL))
        assert (type(raised), raised.no_effect) == (AccessDenied, True)
        assert "ca_file" in str(raised)
        account(server, tmp_path / "token", ca_file=trusted).send(MAIL)
        assert len(server.box.mails) == 1
        raised = raised_by(lambda: stranger.send(MAIL))  # this time with an access token, at the API itself
        assert (type(raised), raised.no_effect) == (AccessDenied, True)
        assert "ca_file" in str(raised)


def test_reading_that_fails_says_that_it_can_be_tried_again(server: GmailServer, gmail: GmailAccount) -> None:
    server.box.deliver(letter(1))
    for operation in ("messages.list", "profile", "messages.get"):
        server.fail_next(Fault(answer=refusal(500, "backendError")), on=operation)
        raised = raised_by(lambda: gmail.new_mail(None, limit=10))
        assert (type(raised), raised.no_effect) == (Unavailable, True)
    assert len(gmail.new_mail(None, limit=10).mails) == 1


def test_a_message_that_is_deleted_while_the_page_is_read_is_left_out(server: GmailServer, gmail: GmailAccount) -> None:
    for number in range(3):
        server.box.deliver(letter(number))
    server.fail_next(Fault(answer=refusal(404, "notFound")), on="messages.get")
    assert [mail.raw for mail in gmail.new_mail(None, limit=10).mails] == [letter(1), letter(2)]
