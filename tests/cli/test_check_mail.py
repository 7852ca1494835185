"""`orchestrator check` finds mail that would go nowhere, and says what would tell forged senders from customers."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.bootstrap import Application, use
from tests.support.app_with_fakes import CONFIG as OFFICE
from tests.support.app_with_fakes import Office
from tests.support.configurations import FLOWS, load
from tests.support.console import Console

CONFIG = """
bindings = {order_records = "shop", file_links = "files", mailer = "post", notifier = "post"}

[connections.post]
connector = "mail"
address = "Shop <support@shop.example>"
notices_to = "owner@shop.example"
smtp = {host = "smtp.shop.example"}
imap = {host = "imap.shop.example", username = "shop", password = "secret"}

[connections.shop]
connector = "shop-sql"
url = "sqlite:///shop.db"
query = "SELECT * FROM orders WHERE lower(email) = :email"

[connections.files]
connector = "s3"
bucket = "files"

[mailboxes.support]
connection = "post"
process = "support-inbox"
addresses = ["help@shop.example"]

[alarms]
process = "alarm"
"""
IMAP = next(line for line in CONFIG.splitlines() if line.startswith("imap"))
NOTICES = 'notices_to = "owner@shop.example"'


def problems(folder: Path, config: str) -> list[str]:
    app = Application(load(folder, FLOWS + config))
    return [str(problem).partition(": ")[2] for problem in app.connections.compatibility(app.plugins.processes())]


@pytest.mark.parametrize(
    ("written", "instead", "problem"),
    [
        (
            IMAP,
            "",
            "[mailboxes.support] connection: connection \"post\" gives no Mailbox as it is; add its section 'imap'",
        ),
        (NOTICES, "", '[bindings] notifier: connection "post" gives no Notifier as it is; set its notices_to'),
        (
            NOTICES,
            'notices_to = "Support@shop.example"',
            "[connections.post] notices_to: is a mailbox that mail is taken in from: nobody would read the notices",
        ),
        (
            NOTICES,
            'notices_to = "help@shop.example"',
            "[connections.post] notices_to: is a mailbox that mail is taken in from: nobody would read the notices",
        ),
        (NOTICES, NOTICES, ""),
    ],
)
def test_mail_that_would_go_nowhere_is_one_problem(tmp_path: Path, written: str, instead: str, problem: str) -> None:
    found = problems(tmp_path, CONFIG.replace(written, instead))
    assert [each[: len(problem)] for each in found] == ([problem] if problem else [])


@pytest.mark.parametrize(("setting", "advice"), [("", 1), ('authserv_id = "mx.shop.example"\n', 0)])
def test_the_name_of_the_server_that_proves_senders_is_recommended(
    tmp_path: Path, console: Console, setting: str, advice: int
) -> None:
    use(Office(tmp_path, OFFICE + setting).app)
    found = console("check", "--json")
    assert (found.code, len(found.json["advice"])) == (0, advice)
    assert console("check").out.count("authserv_id: write the name that your mail server writes first") == advice
