"""The floor: what a plain handler does for the same job, with one durable SQLite commit a step and nothing else.

It keeps no audit trail and encrypts nothing; after a crash it could not tell whether a mail went out. One lock orders
its writers, one connection a thread, SMTP connections stay open: it is as fast as plain code is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import sqlite3
import sys
import threading
from asyncio import to_thread
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from boto3.session import Session
from botocore.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

THREADS = 8
BUCKET = "product-files"
THREE_DAYS = 3 * 24 * 3600


class Jobs:
    """Where each step is written down.

    Args:
        path: The database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._one_writer = threading.Lock()
        self._write("CREATE TABLE job (id TEXT PRIMARY KEY, body BLOB, purchases TEXT, link TEXT, state TEXT)")

    def accept(self, key: str, body: bytes) -> bool:
        """Store a call; False if it is there already."""
        return self._write("INSERT OR IGNORE INTO job (id, body, state) VALUES (?, ?, 'accepted')", key, body) == 1

    def found(self, key: str, purchases: str) -> None:
        """Note what was bought."""
        self._write("UPDATE job SET purchases = ?, state = 'found' WHERE id = ?", purchases, key)

    def linked(self, key: str, link: str) -> None:
        """Note the link, and that the mail is about to go out."""
        self._write("UPDATE job SET link = ?, state = 'sending' WHERE id = ?", link, key)

    def sent(self, key: str) -> None:
        """Note that the mail went out."""
        self._write("UPDATE job SET state = 'sent' WHERE id = ?", key)

    def _write(self, statement: str, *values: object) -> int:
        with self._one_writer:
            return self._connection.execute(statement, values).rowcount

    @property
    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
            self._local.connection.execute("PRAGMA journal_mode = WAL")
            self._local.connection.execute("PRAGMA synchronous = FULL")
        connection: sqlite3.Connection = self._local.connection
        return connection


class Handler:
    """Takes calls in and answers each with a mail.

    Args:
        settings: Where everything is.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._secret = str(settings["secret"]).encode()
        self._jobs = Jobs(Path(settings["database"]))
        self._shop = httpx.Client(base_url=f"http://127.0.0.1:{settings['shop']}")
        self._files = Session().client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{settings['files']}",
            region_name="eu-central-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",  # noqa: S106 - the counterpart takes any
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        self._mail_port = int(settings["mail"])
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(THREADS)

    async def receive(self, request: Request) -> Response:
        """Store a genuine call, answer it, and deal with it then."""
        body = await request.body()
        given = request.headers.get("x-signature", "")
        if not hmac.compare_digest(hmac.new(self._secret, body, hashlib.sha256).hexdigest(), given):
            return JSONResponse({"error": "signature"}, status_code=401)
        key = request.headers["x-request-id"]
        if await to_thread(self._jobs.accept, key, body):
            self._pool.submit(self._serve, key, body)
        return JSONResponse({"delivery": key}, status_code=202)

    def _serve(self, key: str, body: bytes) -> None:
        answer = self._shop.get("/purchases", params={"email": json.loads(body)["email"]})
        answer.raise_for_status()
        self._jobs.found(key, answer.text)
        (purchase,) = answer.json()
        asset = {"Bucket": BUCKET, "Key": purchase["asset"]["key"]}
        self._files.head_object(**asset)
        link = self._files.generate_presigned_url("get_object", Params=asset, ExpiresIn=THREE_DAYS)
        self._jobs.linked(key, link)
        self._send(purchase, link)
        self._jobs.sent(key)

    def _send(self, purchase: dict[str, Any], link: str) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "support@shop.example", purchase["email"], "Your download"
        mail["Message-ID"] = make_msgid(domain="shop.example")
        mail.set_content(f"Hello,\n\nhere is your download:\n\n{purchase['product']}\n{link}\n")
        mail.add_alternative(f'<p>Hello,</p><p><a href="{link}">{purchase["product"]}</a></p>', subtype="html")
        if not hasattr(self._local, "smtp"):
            self._local.smtp = smtplib.SMTP("127.0.0.1", self._mail_port, local_hostname="shop.example")
        self._local.smtp.send_message(mail)


def main() -> None:
    """Serve until told to stop. The settings come as one argument, in JSON."""
    settings = json.loads(sys.argv[1])
    handler = Handler(settings)
    app = Starlette(routes=[Route("/hooks/shop", handler.receive, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=settings["port"], access_log=False, log_level="warning", ws="none")


if __name__ == "__main__":
    main()
