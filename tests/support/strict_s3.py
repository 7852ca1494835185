"""moto's S3 behind a door that keeps out what moto lets in.

Signatures, ends of links, sessions of roles, permissions and clocks are judged as the documentation of Amazon says, and
refused with its error documents (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property
from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from boto3.session import Session
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from orchestrator.capabilities import Asset
from orchestrator_connectors.s3 import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DRESS = Asset(key="patterns/linen-summer-dress.zip")
SEALED = Asset(key="sealed-with-kms.zip")
CONTENT = b"PK" * 1000
REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/files"
_SKEW = timedelta(minutes=15)


@dataclass
class Key:
    """A secret, and the session that it belongs to."""

    secret: str
    token: str = ""
    ends: datetime | None = None


@dataclass
class Asked:
    """What a request says of itself, in its headers or in its link."""

    key_id: str
    region: str
    service: str
    signed_headers: list[str]
    signature: str
    token: str
    at: datetime
    lives: timedelta | None
    """Of a link."""


class Refused(Exception):
    def __init__(self, status: int, code: str, **elements: str) -> None:
        super().__init__(code)
        self.status, self.code, self.elements = status, code, elements


class StrictS3:
    """A bucket with versions, and a role, that are served while the context lasts."""

    external_id = "shop-4711"
    """Who gives it may take on the role."""

    def __init__(self) -> None:
        self.bucket = f"strict-{secrets.token_hex(6)}"  # moto keeps what all stores of this process hold
        self.key_id, self.secret = "AKIASTRICT", "strict-secret"
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Handler)
        self.reset()

    def reset(self) -> None:
        """Be well again, and forget what was issued; what is in the bucket stays."""
        self.keys = {self.key_id: Key(self.secret)}
        self.denied: set[str] = set()
        self.faults: deque[tuple[int, bytes, dict[str, str]]] = deque()
        self.sessions = 0
        self.longest_session = timedelta(hours=1)
        self.gives: timedelta | None = None  # how long sessions of the role last, if not as long as is asked for
        self.ahead = timedelta(0)  # how far its clock is before ours

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.owner.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.owner.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        self.put(DRESS.key, CONTENT)
        self.put(SEALED.key, CONTENT, ServerSideEncryption="aws:kms")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @cached_property
    def owner(self) -> S3Client:
        """A client of whoever fills the bucket."""
        client: S3Client = Session().client(
            "s3",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
        )
        return client

    def put(self, key: str, content: bytes, **how: Any) -> str:
        """Store a file, and return the id of this version of it."""
        return self.owner.put_object(Bucket=self.bucket, Key=key, Body=content, **how)["VersionId"]

    def settings(self, **changes: object) -> S3Settings:
        """Return the settings of a connection that fits."""
        usual = {
            "bucket": self.bucket,
            "region": REGION,
            "endpoint_url": self.url,
            "access_key_id": self.key_id,
            "secret_access_key": self.secret,
            "known_asset": DRESS.key,
            "timeout_seconds": 30,
        }
        return S3Settings.model_validate(usual | changes)

    def with_role(self, **changes: object) -> S3Settings:
        """Return the settings of a connection that takes on the role."""
        return self.settings(**{"role": {"arn": ROLE, "external_id": self.external_id}, **changes})

    def open_session(self, lasts: timedelta) -> tuple[str, Key]:
        """Issue short-lived keys."""
        key_id, key = f"ASIA{secrets.token_hex(8).upper()}", Key(secrets.token_hex(8), secrets.token_hex(8))
        key.ends = (self.now + lasts).replace(microsecond=0)
        self.keys[key_id] = key
        return key_id, key

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"] = BytesIO(Request(environ).get_data())  # to be read twice: by us, and by moto
        request = Request(environ)
        if self.faults:
            status, body, headers = self.faults.popleft()
            return Response(body, status, headers)(environ, start)
        asked = _asked(request)
        try:
            self._admit(request, asked)
            if asked.service == "sts":
                return self._take_on_role(request.form)(environ, start)
        except Refused as refused:
            return self._refusal(refused, asked.service)(environ, start)
        environ["wsgi.input"].seek(0)
        return self._moto(environ, start)

    def _admit(self, request: Request, asked: Asked) -> None:
        sts = asked.service == "sts"
        key = self.keys.get(asked.key_id)
        if key is None:
            raise Refused(403, "InvalidClientTokenId" if sts else "InvalidAccessKeyId")
        if asked.region != REGION:
            code = "AuthorizationQueryParametersError" if asked.lives else "AuthorizationHeaderMalformed"
            raise Refused(400, code, Region=REGION)
        if asked.token != key.token:
            raise Refused(400, "InvalidToken")
        if key.ends and key.ends <= self.now:
            raise Refused(400, "ExpiredToken")
        self._be_on_time(asked, sts=sts)
        if _signature(request, asked, key) != asked.signature:
            raise Refused(403, "SignatureDoesNotMatch")
        if not sts:
            self._permit(request)

    def _be_on_time(self, asked: Asked, *, sts: bool) -> None:
        if asked.lives is None and abs(asked.at - self.now) > _SKEW:
            raise Refused(403, "SignatureDoesNotMatch" if sts else "RequestTimeTooSkewed")
        if asked.lives is not None and not asked.at - _SKEW <= self.now < asked.at + asked.lives:
            raise Refused(403, "AccessDenied", ServerTime=self.now.isoformat())

    def _permit(self, request: Request) -> None:
        of_bucket = request.path.strip("/") == self.bucket
        of_version = "s3:GetObjectVersion" if "versionId" in request.args else "s3:GetObject"
        action = "s3:ListBucket" if of_bucket else of_version
        encrypted = request.path.endswith(SEALED.key) and request.method == "GET"
        if action in self.denied or (encrypted and "kms:Decrypt" in self.denied):
            raise Refused(403, "AccessDenied")

    def _take_on_role(self, form: Any) -> Response:
        wanted = timedelta(seconds=int(form["DurationSeconds"]))
        if form["RoleArn"] != ROLE or form.get("ExternalId") != self.external_id:
            raise Refused(403, "AccessDenied")
        if wanted > self.longest_session:
            raise Refused(400, "ValidationError")
        self.sessions += 1
        key_id, key = self.open_session(self.gives or wanted)
        assert key.ends is not None
        body = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{key.secret}</SecretAccessKey>"
            f"<SessionToken>{key.token}</SessionToken><Expiration>{key.ends:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )
        return Response(body, content_type="text/xml")

    def _refusal(self, refused: Refused, service: str) -> Response:
        told = {"Code": refused.code, "Message": "hidden", **refused.elements}
        elements = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in told.items())
        document = f"<Error>{elements}</Error>"
        if service == "sts":
            document = f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{document}</ErrorResponse>'
        return Response(document, refused.status, content_type="application/xml")


class _Handler(MotoRequestHandler):
    """Tells the time of the store in the header ``Date``, and writes no line for each request."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self.server.app.now, usegmt=True)

    def log(self, *_: object) -> None: ...


def _asked(request: Request) -> Asked:
    link = "X-Amz-Signature" in request.args
    if link:
        told: dict[str, str] = {name.removeprefix("X-Amz-"): value for name, value in request.args.items()}
    else:
        fields = request.headers["Authorization"].partition(" ")[2].split(",")
        told = dict(each.strip().split("=", 1) for each in fields)
        told |= {
            "Date": request.headers["X-Amz-Date"],
            "Security-Token": request.headers.get("X-Amz-Security-Token", ""),
        }
    key_id, _, region, service, _ = told["Credential"].split("/")
    return Asked(
        key_id=key_id,
        region=region,
        service=service,
        signed_headers=told["SignedHeaders"].split(";"),
        signature=told["Signature"],
        token=told.get("Security-Token", ""),
        at=datetime.strptime(told["Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        lives=timedelta(seconds=int(told["Expires"])) if link else None,
    )


def _signature(request: Request, asked: Asked, key: Key) -> str:
    """Sign the request once more, with the secret that its key should have."""
    uri = urlsplit(request.environ["RAW_URI"])
    query = "&".join(part for part in uri.query.split("&") if not part.startswith("X-Amz-Signature="))
    headers = {name: value for name, value in request.headers.items() if name.lower() in asked.signed_headers}
    url = f"http://{request.host}{uri.path}{'?' if query else ''}{query}"
    again = AWSRequest(request.method, url, headers=headers, data=request.get_data())
    again.context["timestamp"] = asked.at.strftime("%Y%m%dT%H%M%SZ")
    kinds: dict[str, type] = {"sts": SigV4Auth, "s3": S3SigV4Auth if asked.lives is None else S3SigV4QueryAuth}
    auth = kinds[asked.service](Credentials("-", key.secret, key.token or None), asked.service, asked.region)
    return str(auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again))
