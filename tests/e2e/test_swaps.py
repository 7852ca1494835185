"""The main job over every combination of systems: only bindings differ, never a byte of a process.

A further system is one more function below, in the table of its axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application
from orchestrator.record.verify import verify
from orchestrator.sandbox.dropbox_server import APP_KEY, APP_SECRET, DropboxServer
from orchestrator.sandbox.gmail import Consents, GmailBox, GmailServer, smtp_to
from orchestrator.sandbox.keap import KeapServer, fill
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.sandbox.object_store import ObjectStore
from orchestrator.sandbox.shop import create_shop
from orchestrator.sandbox.systems import PASSWORD, STRANGER, SUPPORT, customers
from orchestrator.settings import load_settings
from orchestrator.toolkit.tokens import Tokens, TokenStore
from tests.support.gmail_account import granted
from tests.support.paths import ROOT
from tests.support.scenario import ANNA, DRESS, LUCIA, NEUTRAL, Scenario, download, links_in

FLOWS = {path: path.read_bytes() for path in (ROOT / "flows").rglob("*") if path.suffix in (".py", ".j2")}
FOLDER = "/Product files"


@dataclass(frozen=True)
class System:
    """One system that runs on this computer.

    Args:
        connection: What the configuration calls the connection to it.
        settings: Where it is, as settings of the configuration.
        post: The provider of the customers' mailboxes, if it is one.
    """

    connection: str
    settings: dict[str, str]
    post: MailServer | None = None


Start = Callable[[Path], AbstractContextManager[System]]


@contextmanager
def mail(_folder: Path) -> Iterator[System]:
    with MailServer(dict.fromkeys([SUPPORT, STRANGER, *customers()], PASSWORD)) as post:
        ports = {
            "CONNECTIONS__SUPPORT_MAIL__SMTP__PORT": str(post.smtp_port),
            "CONNECTIONS__SUPPORT_MAIL__IMAP__PORT": str(post.imap_port),
        }
        yield System("support_mail", ports, post)


@contextmanager
def gmail(folder: Path) -> Iterator[System]:
    box = GmailBox(SUPPORT)
    with (
        MailServer(dict.fromkeys([STRANGER, *customers()], PASSWORD), routes={SUPPORT: box.deliver}) as post,
        GmailServer(box, deliver=smtp_to(post.smtp_port)) as server,
    ):
        granted(server, folder / "gmail-token")
        account = {
            "CONNECTIONS__GMAIL__CONNECTOR": "gmail",
            "CONNECTIONS__GMAIL__ADDRESS": f"Sandbox Shop <{SUPPORT}>",
            "CONNECTIONS__GMAIL__APP__CLIENT_ID": Consents().client_id,
            "CONNECTIONS__GMAIL__APP__CLIENT_SECRET": Consents().client_secret,
            "CONNECTIONS__GMAIL__APP__TOKEN_FILE": str(folder / "gmail-token"),
            "CONNECTIONS__GMAIL__ENDPOINT_URL": server.url,
            "CONNECTIONS__GMAIL__TOKEN_URL": f"{server.url}/token",
        }
        yield System("gmail", account, post)


@contextmanager
def shop_sql(folder: Path) -> Iterator[System]:
    yield System("shop", {"CONNECTIONS__SHOP__URL": create_shop(folder / "shop.db").url})


@contextmanager
def keap(_folder: Path) -> Iterator[System]:
    with KeapServer() as server:
        fill(server.crm)
        yield System("crm", {"CONNECTIONS__CRM__BASE_URL": server.base_url})


@contextmanager
def s3(_folder: Path) -> Iterator[System]:
    with ObjectStore(bucket="swaps") as store:
        where = {"CONNECTIONS__FILES__ENDPOINT_URL": store.endpoint_url, "CONNECTIONS__FILES__BUCKET": store.bucket}
        yield System("files", where)


@contextmanager
def dropbox(folder: Path) -> Iterator[System]:
    files = {f"{FOLDER}/{key}": content for key, content in ObjectStore(bucket="unused").files.items()}
    with DropboxServer(files) as server:
        access, refresh = server.grant()
        tokens = Tokens(access_token=access, refresh_token=refresh, expires_at=datetime.now(UTC) + timedelta(hours=4))
        TokenStore(path=folder / "dropbox-token").keep(tokens)
        account = {
            "CONNECTIONS__DROPBOX__CONNECTOR": "dropbox",
            "CONNECTIONS__DROPBOX__APP_KEY": APP_KEY,
            "CONNECTIONS__DROPBOX__APP_SECRET": APP_SECRET,
            "CONNECTIONS__DROPBOX__TOKEN_FILE": str(folder / "dropbox-token"),
            "CONNECTIONS__DROPBOX__FOLDER": FOLDER,
            "CONNECTIONS__DROPBOX__API_URL": server.url,
        }
        yield System("dropbox", account)


AXES: tuple[tuple[Start, ...], ...] = ((mail, gmail), (shop_sql, keap), (s3, dropbox))
COMBINATIONS = list(itertools.product(*AXES))


@dataclass(frozen=True)
class Joined:
    """The story over one combination, and the connections' names."""

    story: Scenario
    mail: str
    orders: str
    files: str


@pytest.fixture(params=COMBINATIONS, ids=["+".join(each.__name__ for each in starts) for starts in COMBINATIONS])
def joined(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Joined]:
    with ExitStack() as stack:
        mails, orders, files = (stack.enter_context(start(tmp_path)) for start in request.param)
        overrides = {
            "STORE__URL": f"sqlite:///{tmp_path}/record.db",
            "STORE__KEY_FILE": f"{tmp_path}/keys/kek",
            "BINDINGS__MAILER": mails.connection,
            "BINDINGS__ORDER_RECORDS": orders.connection,
            "BINDINGS__FILE_LINKS": files.connection,
            "MAILBOXES__SUPPORT__CONNECTION": mails.connection,
            **mails.settings,
            **orders.settings,
            **files.settings,
        }
        environment = {f"ORCHESTRATOR_{name}": value for name, value in overrides.items()}
        settings = load_settings(ROOT / "config" / "sandbox.toml", environment)
        # IMAP tells whole seconds: with our clock behind, what is written after an answer also came after it.
        app = Application(settings, clock=lambda: datetime.now(UTC) - timedelta(minutes=5))
        assert mails.post is not None
        yield Joined(Scenario(app, mails.post), mails.connection, orders.connection, files.connection)
        app.record.store.close()


def test_the_main_job_runs_over_every_combination_of_systems(joined: Joined) -> None:
    story = joined.story
    story.write(f"Anna Berg <{ANNA}>", "I lost my download", Message_ID="<lost-1@mail.example.com>")
    story.write(LUCIA, "I lost my zippers video course", "Please send the link again.")
    story.work()
    see_the_answers(story)
    assert trail_of(story) == expected(joined)
    with story.app.record.store.read() as tx:
        found = verify(tx)
    assert (found.breaches, found.chains) == ((), 4)
    assert {path: path.read_bytes() for path in FLOWS} == FLOWS


def see_the_answers(story: Scenario) -> None:
    (reply,) = story.mailbox(ANNA)
    assert (reply["Subject"], reply["In-Reply-To"]) == ("Your download", "<lost-1@mail.example.com>")
    (link,) = links_in(reply)
    assert download(link) == ObjectStore(bucket="unused").files[DRESS]
    assert [(neutral["Subject"], links_in(neutral)) for neutral in story.mailbox(LUCIA)] == [(NEUTRAL, [])]
    (asked,) = story.app.people.open_questions()
    assert asked.question.title == "A customer asks for a download whose order was refunded"


def trail_of(story: Scenario) -> list[tuple[str, str | None, str | None]]:
    """Return what the record says of the run that sent the link."""
    runs = [run for run in story.app.runs.listed(limit=10) if (run.process, run.state) == ("lost-download", "done")]
    (run,) = runs
    with story.app.record.store.read() as tx:
        events = story.app.record.trail.chain(tx, run.run_id)
    assert {event.context.process_version for event in events} == {story.app.definition("lost-download").version}
    return [(event.kind, event.context.connection, event.context.operation) for event in events]


def expected(joined: Joined) -> list[tuple[str, str | None, str | None]]:
    return [
        ("run.opened", None, None),
        ("step.answered", joined.orders, "purchases_of"),
        ("step.answered", joined.files, "exists"),
        ("step.answered", joined.files, "link_to"),
        ("effect.intent", joined.mail, "send"),
        ("effect.attempt", joined.mail, "send"),
        ("effect.outcome", joined.mail, "send"),
        ("run.finished", None, None),
    ]
