"""The words of our mails: ``templates/*.j2``, editable without code.

Each mail has a subject, a plain text and a simple HTML form. No word of a customer's mail is repeated in them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from orchestrator.capabilities import Mailer, OutgoingMail
from orchestrator.errors import Rejected

TEMPLATES = Path(__file__).parent / "templates"


def acknowledge(mailer: Mailer, name: str, *, to: str, in_reply_to: str) -> bool:
    """Tell somebody that their mail came in; return whether they were told.

    They are not where the limits of automatic mail leave no room, or their server refuses the mail.
    """
    mail = compose(name, to=to, in_reply_to=in_reply_to)
    try:
        mailer.send(mail.model_copy(update={"acknowledges": True}))
    except Rejected:
        return False
    return True


def compose(name: str, *, to: str, in_reply_to: str = "", **words: object) -> OutgoingMail:
    """Render a mail from ``templates/NAME.subject.j2``, ``NAME.txt.j2`` and ``NAME.html.j2``.

    Args:
        name: Which mail.
        to: The only recipient.
        in_reply_to: The Message-ID that it answers, if there is one.
        words: What the templates speak of.
    """
    return OutgoingMail(
        to=to,
        subject=_render(f"{name}.subject.j2", words),
        text=_render(f"{name}.txt.j2", words) + "\n",
        html=_render(f"{name}.html.j2", words) + "\n",
        in_reply_to=in_reply_to or None,
    )


def _render(template: str, words: dict[str, object]) -> str:
    return _environment().get_template(template).render(words).strip()


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
