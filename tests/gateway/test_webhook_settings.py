from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.errors import ConfigurationError
from orchestrator.gateway.app import create_app
from orchestrator.gateway.hooks import hook_of
from orchestrator.gateway.mapping import find
from orchestrator.settings import Constant, WebhookSettings
from tests.support.configurations import load, mistakes
from tests.support.webhooks import HOOKS, OLD_SECRET, SECRET, SERVE, configured, plugins

PATH_SECRET = "s" * 32


def section(**fields: str) -> str:
    """Return a section that is right, but for the fields given as TOML."""
    whole = {
        "process": '"serve"',
        "verify": '"github"',
        "secrets": f'["{SECRET}"]',
        "input": '{email = "/a"}',
        **fields,
    }
    return "[webhooks.a]\n" + "".join(f"{name} = {value}\n" for name, value in whole.items() if value)


MISTAKES: dict[str, tuple[dict[str, str], str]] = {
    "scheme": ({"verify": '"x"'}, "verify: is not accepted; it should be 'standard-webhooks', 'stripe', 'github'"),
    "no scheme": ({"verify": ""}, "verify: is missing; write verify = ... below [webhooks.a], or set ORCHESTRATO"),
    "no process": ({"process": ""}, "process: is missing; write process = ... below [webhooks.a], or set ORCHEST"),
    "short path secret": ({"path_secret": '"abc"'}, "path_secret: can be guessed or does not fit into an address"),
    "path secret": ({"path_secret": f'"{"s" * 31}/"'}, "path_secret: can be guessed or does not fit into an addr"),
    "pointer": ({"input": '{email = "customer/email"}'}, ".input] email: is no JSON Pointer (RFC 6901); write the"),
    "pointer with tilde": ({"input": '{email = "/a~b"}'}, ".input] email: is no JSON Pointer (RFC 6901); write the"),
    "neither": ({"input": "{email = 3}"}, ".input] email: names no value of the payload; write a JSON Pointer in q"),
    "not a constant": ({"input": "{email = {konst = 3}}"}, ".input] email: names no value of the payload; write a"),
    "input": ({"input": "3"}, "input: must be a section; write its name in brackets on a line of its own"),
    "delivery id": ({"delivery_id": '"/a~"'}, "delivery_id: is no JSON Pointer (RFC 6901); write the way to a va"),
    "delivery header": ({"delivery_id": '"X Id"'}, "delivery_id: is no name of a header; write it as the sender"),
    "header": ({"hmac": '{header = "X:Y"}'}, ".hmac] header: is no name of a header; write it as the sender does,"),
    "encoding": ({"hmac": '{header = "X", encoding = "b"}'}, ".hmac] encoding: is not accepted; it should be 'hex'"),
    "address": ({"external_url": '"shop.example"'}, "external_url: is no web address; write it with its scheme,"),
    "size": ({"max_bytes": "0"}, "max_bytes: is not accepted; it should be greater than or equal to 1"),
    "too large": ({"max_bytes": "99999999"}, "max_bytes: is not accepted; it should be less than or equal to 250"),
    "tolerance": ({"tolerance_seconds": "-1"}, "tolerance_seconds: is not accepted; it should be greater than or"),
    "unknown": ({"secret": '"x"'}, 'secret: is no setting; did you mean "secrets"?'),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "told"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_written_wrongly_is_told_with_its_place_and_remedy(
    tmp_path: Path, fields: dict[str, str], told: str
) -> None:
    (found,) = mistakes(tmp_path, section(**fields))
    place = told if told.startswith(".") else f"] {told}"
    assert found.startswith(f"o.toml: [webhooks.a{place}")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("in_flight = 1", "in_flight: is not accepted"),
        ("port = 70000", "port: is not acc"),
        ("hots = 1", "hots: is no"),
    ],
)
def test_what_is_wrong_about_the_gateway_is_told(tmp_path: Path, field: str, told: str) -> None:
    (found,) = mistakes(tmp_path, f"[gateway]\n{field}")
    assert found.startswith(f"o.toml: [gateway] {told}")


MISFITS: dict[str, tuple[dict[str, str], str]] = {
    "no secrets": (
        {"secrets": ""},
        "[webhooks.a] secrets: is missing; set ORCHESTRATOR_WEBHOOKS__A__SECRETS, one secret a line",
    ),
    "short secret": (
        {"secrets": f'["{SECRET}", "abc"]'},
        (
            "[webhooks.a] secrets.1: is so short that it can be guessed; agree on one of 16 characters or more "
            "with the sender"
        ),
    ),
    "no secret of standard webhooks": (
        {"verify": '"standard-webhooks"', "secrets": '["not base64, at all!"]'},
        "[webhooks.a] secrets.0: is no secret of Standard Webhooks; write it as the sender shows it: whsec_ and base64",
    ),
    "unsigned with secrets": (
        {"verify": '"none"', "path_secret": f'"{PATH_SECRET}"'},
        '[webhooks.a] secrets: are not used with verify = "none"; remove them, or write how the sender signs',
    ),
    "unsigned without a path secret": (
        {"verify": '"none"', "secrets": ""},
        (
            '[webhooks.a] path_secret: is missing: with verify = "none" the address is the only secret; '
            "set ORCHESTRATOR_WEBHOOKS__A__PATH_SECRET to 32 random letters and digits or more"
        ),
    ),
    "hubspot without its address": (
        {"verify": '"hubspot-v3"'},
        (
            "[webhooks.a] external_url: is missing: HubSpot signs it; write external_url = ... with "
            "the whole address that "
            "HubSpot calls"
        ),
    ),
    "one event of a batch": (
        {"verify": '"hubspot-v3"', "external_url": '"https://x.example/"', "input": '{email = "/0/email"}'},
        (
            '[webhooks.a.input] email: takes one event of a list, and loses the others; write email = "", which is the '
            "whole list, and let the process take a list"
        ),
    ),
    "hmac without its header": (
        {"verify": '"hmac"'},
        (
            "[webhooks.a] hmac: is missing: nothing says where the signature stands; "
            'write hmac = {header = "X-Signature"} below [webhooks.a]'
        ),
    ),
    "hmac that is not used": (
        {"hmac": '{header = "X"}'},
        '[webhooks.a] hmac: is not used with verify = "github"; remove it, or write verify = "hmac"',
    ),
    "unknown process": (
        {"process": '"server"'},
        '[webhooks.a] process: there is no process "server"; did you mean "serve"?',
    ),
    "process that is off": (
        {"process": '"failing"', "input": '{email = "/a"}\n[processes.failing]\nenabled = false'},
        (
            '[webhooks.a] process: process "failing" is switched off; name another process, or remove enabled = false '
            "below [processes.failing]"
        ),
    ),
    "unknown field": (
        {"input": '{email = "/a", prodct = "/b"}'},
        '[webhooks.a.input] prodct: the input of process "serve" has no such field; did you mean "product"?',
    ),
    "missing field": (
        {"input": '{product = "/a"}'},
        '[webhooks.a.input] email: is missing: process "serve" needs it; write email = "/..." below [webhooks.a.input]',
    ),
    "constant of another type": (
        {"input": '{email = "/a", by_mail = {const = "perhaps"}}'},
        "[webhooks.a.input] by_mail: must be true or false; write it without quotes",
    ),
}


def problems(folder: Path, text: str) -> list[str]:
    app = configured(folder, text=text)
    found = app.connections.webhook_problems(app.plugins.processes())
    return [str(problem).replace(f"{folder}/o.toml: ", "") for problem in found]


@pytest.mark.parametrize(("fields", "told"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_together_is_told_with_its_place_and_remedy(
    tmp_path: Path, fields: dict[str, str], told: str
) -> None:
    assert problems(tmp_path, section(**fields)) == [told]


def test_what_fits_together_has_no_problems(tmp_path: Path) -> None:
    assert problems(tmp_path, HOOKS) == []


def test_a_standard_secret_of_any_length_fits_padded_or_not(tmp_path: Path) -> None:
    padded = [b64encode(b"\xff" * length).decode() for length in range(24, 65)]
    written = [secret for each in padded for secret in (each, each.rstrip("="), f"whsec_{each}")]
    text = section(verify='"standard-webhooks"', secrets=json.dumps(written))
    assert problems(tmp_path, text) == []
    hook = hook_of("a", load(tmp_path, text).webhooks["a"], SERVE)
    assert [len(key) for key in hook.proof.keys] == [length for length in range(24, 65) for _ in range(3)]


def test_all_that_does_not_fit_is_part_of_the_check(tmp_path: Path) -> None:
    app = configured(tmp_path, text=section(secrets=""))
    assert [str(found) for found in app.connections.compatibility(plugins().processes())] == [
        f"{tmp_path}/o.toml: [webhooks.a] secrets: is missing; set ORCHESTRATOR_WEBHOOKS__A__SECRETS, one secret a line"
    ]


def test_the_gateway_does_not_start_with_a_webhook_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\[webhooks.a\] secrets: is missing"):
        create_app(configured(tmp_path, text=section(secrets="")))


SEVERAL = [f"{SECRET}\n{OLD_SECRET}", f"{SECRET}\r\n\r\n{OLD_SECRET}\r\n", f'["{SECRET}", "{OLD_SECRET}"]']


@pytest.mark.parametrize("written", SEVERAL, ids=["lines", "windows", "json"])
def test_secrets_come_from_a_file_or_a_variable(tmp_path: Path, written: str) -> None:
    text = section(secrets="")
    from_file = load(tmp_path, text, {"webhooks__a__secrets": written}).webhooks["a"]
    (tmp_path / "secrets" / "webhooks__a__secrets").unlink()
    from_variable = load(tmp_path, text, WEBHOOKS__A__SECRETS=written).webhooks["a"]
    for found in (from_file, from_variable):
        assert [secret.get_secret_value() for secret in found.secrets] == [SECRET, OLD_SECRET]


def test_the_input_comes_from_a_variable_as_well(tmp_path: Path) -> None:
    given = load(tmp_path, section(input=""), WEBHOOKS__A__INPUT='{"email": "/x", "by_mail": {"const": true}}')
    assert given.webhooks["a"].input == {"email": "/x", "by_mail": Constant(const=True)}
    (tmp_path / "o.toml").write_text("")
    given = load(tmp_path, section(input=""), WEBHOOKS__A__INPUT__EMAIL="/y")
    assert given.webhooks["a"].input == {"email": "/y"}


def test_no_secret_shows(tmp_path: Path) -> None:
    settings = load(tmp_path, section(path_secret=f'"{PATH_SECRET}"', secrets=f'["{SECRET}", "{OLD_SECRET}"]'))
    for text in (repr(settings), str(settings.model_dump())):
        assert not [secret for secret in (PATH_SECRET, SECRET, OLD_SECRET) if secret in text]


def test_no_refused_secret_shows(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, section(path_secret='"canary-canary"'))
    assert "canary" not in found


@given(pointer=st.text(st.sampled_from("/~01ab"), max_size=8))
def test_a_pointer_that_is_accepted_finds_something_or_nothing(pointer: str) -> None:
    try:
        settings = WebhookSettings.model_validate({"process": "p", "verify": "none", "input": {"x": pointer}})
    except ValidationError:
        return
    source = settings.input["x"]
    assert isinstance(source, str)
    find({"a": [{"b": {"0": 1}}]}, source)


def test_every_scheme_that_can_be_configured_becomes_a_webhook(tmp_path: Path) -> None:
    app = configured(tmp_path)
    hooks = [hook_of(name, each, app.definition(each.process)) for name, each in app.settings.webhooks.items()]
    assert [(hook.name, hook.delivery_id) for hook in hooks] == [
        ("shop", "webhook-id"),
        ("keap", "/id"),
        ("slack", "/event_id"),
    ]
