"""A business on this machine, the configuration that fits it, and what ``orchestrator check`` says of a wrong one."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from orchestrator.bootstrap import application, use
from orchestrator.config_file import CONFIG_VARIABLE
from orchestrator.errors import OrchestratorError
from orchestrator.record.record import open_record
from orchestrator.sandbox import shop
from orchestrator.sandbox.dropbox_server import APP_KEY, APP_SECRET, DropboxServer
from orchestrator.sandbox.gmail import Consents, GmailBox, GmailServer
from orchestrator.sandbox.keap import ASSETS, KeapServer, fill
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.toolkit.tokens import Tokens, TokenStore, tokens_from
from orchestrator_connectors.gmail.settings import SCOPES
from tests.support import certificates
from tests.support.console import Console
from tests.support.paths import ROOT
from tests.support.strict_s3 import DRESS, REGION, StrictS3

SUPPORT, PASSWORD = "support@shop.example", "s3cret-of-the-mailbox"
ROBOT = "robot@project.iam.gserviceaccount.com"
WEBHOOK_SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"

CONFIG = Template("""
[plugins]
modules = ["flows"]
folder = "$root"
disabled = []

[store]
url = "sqlite:///$folder/record.db"
key_file = "$folder/keys/kek"

[prefect]
api_url = "http://127.0.0.1:9/api"

[connections.shop]
connector = "shop-sql"
known_email = "$anna"
query = '''
$query'''

[connections.files]
connector = "s3"
bucket = "$bucket"
region = "$region"
endpoint_url = "$files"
known_asset = "$known"

[connections.crm]
connector = "keap"
client_id = "sandbox-app"
token_file = "$folder/tokens/crm"
base_url = "$crm/crm"
token_url = "$crm/token"
known_email = "$anna"
assets = {$assets}

[connections.post]
connector = "mail"
address = "$support"
notices_to = "owner@shop.example"
smtp = {host = "127.0.0.1", port = $smtp, username = "$support", ca_file = "$folder/ca.pem"}

[connections.post.imap]
host = "127.0.0.1"
port = $imap
security = "tls"
username = "$support"
ca_file = "$folder/ca.pem"
folder = "INBOX"

[connections.gmail]
connector = "gmail"
address = "$support"
endpoint_url = "$gmail"
token_url = "$gmail/token"

[connections.gmail.app]
client_id = "sandbox.apps.googleusercontent.com"
token_file = "$folder/tokens/gmail"

[connections.box]
connector = "dropbox"
app_key = "$app_key"
token_file = "$folder/tokens/box"
folder = "/Products"
api_url = "$box"
known_asset = "dress.zip"

[bindings]
order_records = "shop"
file_links = "files"
mailer = "post"
notifier = "post"

[mailboxes.support]
connection = "post"
process = "support-inbox"

[webhooks.orders]
process = "lost-download"
verify = "standard-webhooks"

[webhooks.orders.input]
email = "/customer/email"

[alarms]
process = "alarm"
""")


class Verdict(NamedTuple):
    """What ``orchestrator check`` says.

    Args:
        code: Its exit code.
        complaints: Every sentence about something wrong.
        works: The connections that work.
        printed: Everything that it prints.
    """

    code: int
    complaints: list[str]
    works: set[str]
    printed: str


class Business:
    """The systems, and what fits them. Made by ``business``."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.clock_is_off = timedelta()
        _, tls = certificates.authority(folder)
        logging.getLogger("mail.log").setLevel(logging.ERROR)  # the mail server warns of itself
        open_record(f"sqlite:///{folder}/record.db", folder / "keys" / "kek").store.close()
        self.shop = shop.create_shop(folder / "shop.db")
        self.crm = stack.enter_context(KeapServer())
        fill(self.crm.crm)
        self._post = stack.enter_context(MailServer({SUPPORT: PASSWORD}, auth_required=True, tls=tls))
        self._files = stack.enter_context(StrictS3())
        self.bucket = self._files.bucket
        consents = Consents(clock=lambda: time.time() - self.clock_is_off.total_seconds())
        self.gmail = stack.enter_context(GmailServer(GmailBox(SUPPORT), consents))
        self.box = stack.enter_context(DropboxServer({"/Products/dress.zip": b"PK"}))
        self.places = {
            "files": self._files.url,
            "bucket": self.bucket,
            "crm": self.crm.url,
            "smtp": self._post.smtps_port,
            "imap": self._post.imaps_port,
            "gmail": self.gmail.url,
            "box": self.box.url,
        }

    def variables(self) -> dict[str, str]:
        """Return the secrets, as they stand in the environment."""
        return {
            "SHOP__URL": self.shop.url,
            "FILES__ACCESS_KEY_ID": self._files.key_id,
            "FILES__SECRET_ACCESS_KEY": self._files.secret,
            "CRM__CLIENT_SECRET": self.crm.gate.client_secret,
            "POST__SMTP__PASSWORD": PASSWORD,
            "POST__IMAP__PASSWORD": PASSWORD,
            "GMAIL__APP__CLIENT_SECRET": self.gmail.consents.client_secret,
            "BOX__APP_SECRET": APP_SECRET,
        }

    def secrets(self) -> list[str]:
        """Return what must never be printed."""
        return [PASSWORD, WEBHOOK_SECRET, *(value for name, value in self.variables().items() if name != "SHOP__URL")]

    def authorise(self) -> None:
        """Let a person have granted access to everything that asks for it, just now."""
        self.clock_is_off = timedelta()
        store = TokenStore(path=self.token_file("crm"))
        store.keep(tokens_from(self.crm.gate.new_tokens(), now=store.clock()))
        self.gmail_token = self.gmail.consents.grant_into(self.token_file("gmail"), *SCOPES)
        access, refresh = self.box.grant()
        ends = datetime.now(UTC) + timedelta(hours=4)
        kept = Tokens(access_token=access, refresh_token=refresh, expires_at=ends)
        TokenStore(path=self.token_file("box")).keep(kept)

    def token_file(self, connection: str) -> Path:
        """Return where a connection's tokens are kept."""
        return self.folder / "tokens" / connection

    def open_secret(self) -> None:
        """Write a secret into a file that others may read."""
        folder = self.folder / "open"
        folder.mkdir(exist_ok=True)
        (folder / "connections__shop__url").write_text(self.shop.url)
        (folder / "connections__shop__url").chmod(0o644)

    def open_key(self) -> None:
        """Make a key file that others may read."""
        (self.folder / "keys" / "open").write_bytes(bytes(32))
        (self.folder / "keys" / "open").chmod(0o644)

    def end_dropbox_access(self) -> None:
        """Let Dropbox have taken access back since."""
        self.box.access_tokens.clear()
        self.box.refresh_tokens.clear()

    def grant_gmail(self, scope: str) -> None:
        """Let the person have ticked one box of two at Google's."""
        self.gmail.consents.grant_into(self.token_file("gmail"), scope)

    def use_robot_with_a_fast_clock(self) -> None:
        """Delegate the mailbox to a service account, whose clock is two hours before that of Google."""
        self.clock_is_off = timedelta(hours=2)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        consents = self.gmail.consents
        consents.delegated[ROBOT] = frozenset(SCOPES)
        consents.public_keys[ROBOT] = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        written = {"type": "service_account", "client_email": ROBOT, "private_key": pem}
        (self.folder / "robot.json").write_text(json.dumps(written | {"token_uri": f"{self.gmail.url}/token"}))

    def configuration(self) -> str:
        """Return the configuration that fits; ``FOLDER`` stands for the folder."""
        assets = ", ".join(f'"{sku}" = "{asset}"' for sku, asset in ASSETS.items())
        return CONFIG.substitute(
            self.places, folder="FOLDER", anna=shop.ONE_PURCHASE, query=self.shop.query, region=REGION, known=DRESS.key,
            root=ROOT, support=SUPPORT, app_key=APP_KEY, assets=assets,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake in a configuration that fits otherwise.

    Args:
        what: In words.
        names: What the sentence must name, so that one knows what to change.
        instead: What is written in the file, and what stands there instead; ``""`` for what is added at its end.
        given: Variables below ``ORCHESTRATOR_``; None for one that is missing.
        happens: What happens to the systems.
        mode: Who may use the file.
    """

    what: str
    names: str
    instead: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str | None] = field(default_factory=dict)
    happens: Callable[[Business], Any] = lambda _business: None
    mode: int = 0o600

    def text(self, business: Business) -> str:
        """Write the file with the mistake in it."""
        text = business.configuration()
        for written, instead in self.instead.items():
            assert not written or text.count(written) == 1, f"{written!r} must stand in the file once"
            text = text.replace(written, instead) if written else text + instead
        return text.replace("FOLDER", str(business.folder))


@contextmanager
def business(folder: Path) -> Iterator[Business]:
    """Start the systems, while the context lasts."""
    with ExitStack() as stack:
        yield Business(folder, stack)


def check(business: Business, mistake: Mistake, console: Console) -> Verdict:
    """Run the command on a configuration with a mistake."""
    business.authorise()
    mistake.happens(business)
    config = business.folder / "orchestrator.toml"
    config.write_text(mistake.text(business))
    config.chmod(mistake.mode)
    variables: dict[str, str | None] = {f"CONNECTIONS__{name}": value for name, value in business.variables().items()}
    variables |= {"WEBHOOKS__ORDERS__SECRETS": WEBHOOK_SECRET} | dict(mistake.given)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            if value is not None:
                environment.setenv(f"ORCHESTRATOR_{name}", value.replace("FOLDER", str(business.folder)))
        environment.setenv(CONFIG_VARIABLE, str(config))
        use(None)
        said = console("check", "--json")
        with suppress(OrchestratorError):  # then there is no record to close
            application().record.store.close()
        use(None)
    found = json.loads(said.out or '{"problems": [], "connections": []}')
    broken = [row["seen"] for row in found["connections"] if not row["works"]]
    works = {row["connection"] for row in found["connections"] if row["works"]}
    return Verdict(said.code, [*said.err.splitlines(), *found["problems"], *broken], works, said.out + said.err)
