"""Each mistake, provoked on real systems, is told by ``orchestrator check`` in one sentence that says the remedy."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator

import pytest

from orchestrator.testing.http_server import Answer, Fault
from orchestrator_connectors.gmail.settings import READ, SEND
from tests.support import misconfigured_business
from tests.support.console import Console
from tests.support.misconfigured_business import SUPPORT, Business, Mistake, Verdict
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text()
ROWS = (
    PAGE.partition("<!-- check -->\n| mistake | what it says |\n|---|---|\n")[2]
    .partition("<!-- end -->")[0]
    .splitlines()
)
HERE = re.compile(r"127[.]0[.]0[.]1(:[0-9]+)?")
CONNECTIONS = {"shop", "files", "crm", "post", "gmail", "box", "host"}
WRONG = "s3cret-and-wrong"
NO_SCOPE = {"error": {".tag": "missing_scope", "required_scope": "files.metadata.read"}}
KEAP_KEY = {'client_id = "sandbox-app"\n': "", 'token_file = "FOLDER/tokens/crm"\n': ""}
ROBOT = {
    "[connections.gmail.app]": "[connections.gmail.service_account]",
    'client_id = "sandbox.apps.googleusercontent.com"\n': "",
    'token_file = "FOLDER/tokens/gmail"': 'key_file = "FOLDER/robot.json"',
}


WRITTEN = (
    Mistake(what="a misspelt section", names="bindings", instead={"[bindings]": "[binding]"}),
    Mistake(what="a misspelt setting", names="base_url", instead={"\nbase_url": "\nbas_url"}),
    Mistake(what="a misspelt connector", names="connector", instead={'"keap"': '"keep"'}),
    Mistake(what="a secret that is missing", names="SHOP__URL", given={"CONNECTIONS__SHOP__URL": None}),
    Mistake(what="one underscore in a variable", names="STORE__URL", given={"STORE_URL": "sqlite:///x.db"}),
    Mistake(
        what="a secret file that others may read",
        names="chmod 600",
        given={"SECRETS_DIR": "FOLDER/open", "CONNECTIONS__SHOP__URL": None},
        happens=Business.open_secret,
    ),
    Mistake(
        what="a secret in a configuration that others may read",
        names="chmod 600",
        instead={"[connections.post.imap]": '[connections.post.imap]\npassword = "s3cret-of-the-mailbox"'},
        given={"CONNECTIONS__POST__IMAP__PASSWORD": None},
        mode=0o644,
    ),
    Mistake(
        what="half a credential",
        names="client_secret",
        given={"CONNECTIONS__CRM__CLIENT_SECRET": None},
    ),
    Mistake(
        what="a port that does not fit its security", names="security", given={"CONNECTIONS__POST__IMAP__PORT": "143"}
    ),
    Mistake(
        what="a wrong cron expression",
        names="cron",
        instead={"": '[processes.alarm.schedule]\ncron = "61 8 * * *"\n'},
    ),
    Mistake(
        what="a wrong time zone",
        names="timezone",
        instead={"": '[processes.alarm.schedule]\ncron = "0 8 * * *"\ntimezone = "Europe/Berln"\n'},
    ),
)
FITTED = (
    Mistake(what="a capability without a connection", names="file_links", instead={'file_links = "files"\n': ""}),
    Mistake(
        what="a connection that lacks the capability",
        names="file_links",
        instead={'file_links = "files"': 'file_links = "shop"'},
    ),
    Mistake(what="a misspelt connection", names="mailer", instead={'mailer = "post"': 'mailer = "pots"'}),
    Mistake(what="a misspelt capability", names="notifier", instead={'notifier = "post"': 'notifer = "post"'}),
    Mistake(
        what="a mailbox with a misspelt process",
        names="process",
        instead={'process = "support-inbox"': 'process = "suport-inbox"'},
    ),
    Mistake(
        what="a mailbox whose process takes no mail",
        names="process",
        instead={'process = "support-inbox"': 'process = "alarm"'},
    ),
    Mistake(
        what="a schedule of an unknown process",
        names="alarm",
        instead={"": '[processes.alarms.schedule]\ncron = "0 8 * * *"\n'},
    ),
    Mistake(
        what="a schedule without an input that the process needs",
        names="request",
        instead={"": '[processes.lost-download.schedule]\ncron = "0 8 * * *"\n'},
    ),
    Mistake(
        what="a schedule that never comes due",
        names="cron",
        instead={"": '[processes.lost-download.schedule]\nrequest = {email = "a@shop.example"}\n'},
    ),
    Mistake(
        what="a webhook input that the process lacks",
        names="product",
        instead={"[alarms]": '[webhooks.orders.input.prodcut]\nconst = "x"\n[alarms]'},
    ),
    Mistake(what="a webhook input that is missing", names="email", instead={'email = "/customer/email"': ""}),
    Mistake(what="a webhook without a secret", names="SECRETS", given={"WEBHOOKS__ORDERS__SECRETS": None}),
    Mistake(
        what="a webhook with a secret of another style", names="whsec_", given={"WEBHOOKS__ORDERS__SECRETS": WRONG}
    ),
    Mistake(
        what="alarms by a process that is switched off",
        names="enabled",
        instead={"": "[processes.alarm]\nenabled = false\n"},
    ),
    Mistake(
        what="alarms that go to a mailbox whose mail is taken in",
        names="notices_to",
        instead={'notices_to = "owner@shop.example"': f'notices_to = "{SUPPORT}"'},
    ),
    Mistake(
        what="alarms by a mail account that names nobody",
        names="notices_to",
        instead={'notices_to = "owner@shop.example"': ""},
    ),
    Mistake(
        what="a plug-in to leave out that there is not",
        names="disabled",
        instead={"disabled = []": 'disabled = ["s4"]'},
    ),
)
SYSTEMS = {
    "shop": (
        Mistake(
            what="shop-sql: a database file that does not exist",
            names="url",
            given={"CONNECTIONS__SHOP__URL": "sqlite:///file:FOLDER/shopp.db?mode=ro&uri=true"},
        ),
        Mistake(what="shop-sql: a wrong table", names="ordres", instead={"FROM orders": "FROM ordres"}),
        Mistake(
            what="shop-sql: a wrong column",
            names="orders.emial",
            instead={"lower(orders.email)": "lower(orders.emial)"},
        ),
        Mistake(what="shop-sql: a column without its name", names="AS", instead={" AS asset": ""}),
        Mistake(
            what="shop-sql: an unreachable host",
            names="url",
            given={"CONNECTIONS__SHOP__URL": f"postgresql+psycopg://reader:{WRONG}@127.0.0.1:1/shop"},
        ),
        Mistake(
            what="shop-sql: a known customer who is not there",
            names="known_email",
            given={"CONNECTIONS__SHOP__KNOWN_EMAIL": "nobody@shop.example"},
        ),
    ),
    "files": (
        Mistake(
            what="s3: a wrong key",
            names="access_key_id",
            given={"CONNECTIONS__FILES__ACCESS_KEY_ID": WRONG},
        ),
        Mistake(
            what="s3: a wrong secret",
            names="secret_access_key",
            given={"CONNECTIONS__FILES__SECRET_ACCESS_KEY": WRONG},
        ),
        Mistake(
            what="s3: a wrong region",
            names="region",
            given={"CONNECTIONS__FILES__REGION": "eu-west-9"},
        ),
        Mistake(what="s3: a wrong bucket", names="bucket", given={"CONNECTIONS__FILES__BUCKET": "no-such-bucket"}),
        Mistake(
            what="s3: a known asset that is not there",
            names="known_asset",
            given={"CONNECTIONS__FILES__KNOWN_ASSET": "x.zip"},
        ),
        Mistake(
            what="s3: an unreachable host",
            names="endpoint_url",
            given={"CONNECTIONS__FILES__ENDPOINT_URL": "http://127.0.0.1:1"},
        ),
    ),
    "crm": (
        Mistake(
            what="keap: a wrong key",
            names="api_key",
            instead=KEAP_KEY,
            given={"CONNECTIONS__CRM__CLIENT_SECRET": None, "CONNECTIONS__CRM__API_KEY": WRONG},
        ),
        Mistake(
            what="keap: access that was revoked",
            names="authorize",
            happens=lambda business: business.crm.gate.revoke(),
        ),
        Mistake(
            what="keap: nobody has authorised it",
            names="authorize",
            happens=lambda business: business.token_file("crm").unlink(),
        ),
        Mistake(
            what="keap: tokens that others may read",
            names="chmod 600",
            happens=lambda business: business.token_file("crm").chmod(0o644),
        ),
        Mistake(
            what="keap: an unreachable host",
            names="base_url",
            given={"CONNECTIONS__CRM__BASE_URL": "http://127.0.0.1:1"},
        ),
        Mistake(
            what="keap: a known customer who is not there",
            names="known_email",
            given={"CONNECTIONS__CRM__KNOWN_EMAIL": "nobody@shop.example"},
        ),
        Mistake(
            what="keap: files of products that nobody sold",
            names="assets",
            given={"CONNECTIONS__CRM__ASSETS": '{"OTHER": "other.zip"}'},
        ),
    ),
    "post": (
        Mistake(
            what="mail: a wrong password to send",
            names="smtp.password",
            given={"CONNECTIONS__POST__SMTP__PASSWORD": WRONG},
        ),
        Mistake(
            what="mail: a wrong password to read",
            names="imap.password",
            given={"CONNECTIONS__POST__IMAP__PASSWORD": WRONG},
        ),
        Mistake(what="mail: a wrong folder name", names="imap.folder", instead={'"INBOX"': '"Inbx"'}),
        Mistake(what="mail: an unreachable host", names="smtp.host", given={"CONNECTIONS__POST__SMTP__PORT": "1"}),
        Mistake(
            what="mail: a certificate that is not trusted",
            names="imap.ca_file",
            instead={
                'username = "support@shop.example"\nca_file = "FOLDER/ca.pem"': 'username = "support@shop.example"'
            },
        ),
    ),
    "gmail": (
        Mistake(what="gmail: a missing scope", names=READ, happens=lambda business: business.grant_gmail(SEND)),
        Mistake(
            what="gmail: a missing scope for sending", names=SEND, happens=lambda business: business.grant_gmail(READ)
        ),
        Mistake(
            what="gmail: access that was revoked",
            names="authorize",
            happens=lambda business: business.gmail.consents.revoke(business.gmail_token),
        ),
        Mistake(
            what="gmail: a wrong client",
            names="app.client_secret",
            given={"CONNECTIONS__GMAIL__APP__CLIENT_SECRET": WRONG},
        ),
        Mistake(
            what="gmail: another account's address",
            names="address",
            given={"CONNECTIONS__GMAIL__ADDRESS": "sales@shop.example"},
        ),
        Mistake(
            what="gmail: a clock that is wrong",
            names="clock",
            instead=ROBOT,
            given={"CONNECTIONS__GMAIL__APP__CLIENT_SECRET": None},
            happens=Business.use_robot_with_a_fast_clock,
        ),
    ),
    "box": (
        Mistake(what="dropbox: access that was revoked", names="authorize", happens=Business.end_dropbox_access),
        Mistake(
            what="dropbox: a missing scope",
            names="files.metadata.read",
            happens=lambda business: business.box.fail_next(Fault(answer=Answer(401, NO_SCOPE))),
        ),
        Mistake(what="dropbox: a wrong folder name", names="folder", instead={'"/Products"': '"/Produts"'}),
        Mistake(
            what="dropbox: a known asset that is not there",
            names="known_asset",
            instead={'"dress.zip"': '"dres.zip"'},
        ),
        Mistake(
            what="dropbox: an unreachable host",
            names="api_url",
            given={"CONNECTIONS__BOX__API_URL": "http://127.0.0.1:1"},
        ),
    ),
    "host": (
        Mistake(
            what="a key file in an unwritable place",
            names="key_file",
            given={"STORE__URL": "sqlite:///FOLDER/new.db", "STORE__KEY_FILE": "FOLDER/shop.db/kek"},
        ),
        Mistake(
            what="a key file that others may read",
            names="key_file",
            given={"STORE__KEY_FILE": "FOLDER/keys/open"},
            happens=Business.open_key,
        ),
        Mistake(what="a key file that is gone", names="key_file", given={"STORE__KEY_FILE": "FOLDER/keys/another"}),
        Mistake(
            what="a store that cannot be opened",
            names="[store] url",
            given={"STORE__URL": "sqlite:///FOLDER/shop.db/record.db"},
        ),
        Mistake(
            what="a store that is not there",
            names="[store] url",
            given={"STORE__URL": f"postgresql+psycopg://x:{WRONG}@127.0.0.1:1/x"},
        ),
    ),
}
OF_SYSTEMS = [(connection, mistake) for connection, mistakes in SYSTEMS.items() for mistake in mistakes]
ALL = [*WRITTEN, *FITTED, *(mistake for _, mistake in OF_SYSTEMS)]


@pytest.fixture(scope="module")
def business(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    with misconfigured_business.business(tmp_path_factory.mktemp("business")) as business:
        gc.freeze()  # else each collection looks through all the systems, and takes longer than a check
        yield business
        gc.unfreeze()


class Checked:
    """Provokes mistakes, and judges how they are explained."""

    def __init__(self, business: Business, console: Console) -> None:
        self._business = business
        self._console = console

    def __call__(self, mistake: Mistake) -> Verdict:
        """Return the verdict on a mistake, which must be one sentence that says what to change."""
        verdict = misconfigured_business.check(self._business, mistake, self._console)
        (sentence,) = verdict.complaints
        assert verdict.code == 1
        assert mistake.names in sentence
        assert "report it" not in sentence
        assert [secret for secret in (WRONG, *self._business.secrets()) if secret in verdict.printed] == []
        row = self._row(mistake, sentence)
        assert row in ROWS, f"docs/operating.md must say: {row}"
        return verdict

    def _row(self, mistake: Mistake, sentence: str) -> str:
        """Write the sentence as the page shows it: without what differs from one machine to the next."""
        shown = sentence.replace(f"{self._business.folder}/", "").replace("|", "\\|")
        shown = HERE.sub("HOST", shown).replace(self._business.bucket, "BUCKET")
        return f"| {mistake.what} | {shown} |"


@pytest.fixture
def checked(business: Business, console: Console) -> Checked:
    return Checked(business, console)


def named(mistake: Mistake) -> str:
    return mistake.what


def test_without_a_mistake_everything_fits(business: Business, console: Console) -> None:
    verdict = misconfigured_business.check(business, Mistake(what="none", names=""), console)
    assert verdict[:3] == (0, [], CONNECTIONS)


@pytest.mark.parametrize("mistake", WRITTEN, ids=named)
def test_what_is_written_wrongly_is_told_before_anything_is_asked(checked: Checked, mistake: Mistake) -> None:
    assert checked(mistake).works == set()


@pytest.mark.parametrize("mistake", FITTED, ids=named)
def test_what_does_not_fit_is_told_while_every_connection_works(checked: Checked, mistake: Mistake) -> None:
    assert checked(mistake).works == CONNECTIONS


@pytest.mark.parametrize(
    ("connection", "mistake"), OF_SYSTEMS, ids=[f"{connection}-{mistake.what}" for connection, mistake in OF_SYSTEMS]
)
def test_what_a_system_refuses_is_told_while_the_others_work(
    checked: Checked, connection: str, mistake: Mistake
) -> None:
    assert checked(mistake).works == CONNECTIONS - {connection}


def test_the_page_tells_of_these_mistakes_alone() -> None:
    assert [row.split(" | ")[0].removeprefix("| ") for row in ROWS] == [mistake.what for mistake in ALL]
