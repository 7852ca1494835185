"""``orchestrator effects``: outward changes whose outcome is not known, and what a person says of them."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from orchestrator.bootstrap import recorded, this_user
from orchestrator.cli.audit import told
from orchestrator.cli.output import Json, fields, say, show
from orchestrator.errors import ConfigurationError
from orchestrator.kernel.resolution import happened_twice, open_effects
from orchestrator.kernel.resolution import settle as settle_effect
from orchestrator.ledger.states import Cause
from orchestrator.record.clock import moment

app = App(name="effects", help="Outward changes whose outcome is not known, or that happened twice.")
Flag = Annotated[bool, Parameter(negative="")]


@app.default
def listed(*, json: Json = False) -> None:
    """List effects that are under way, in doubt, or wait for a person.

    Example: ``orchestrator effects``

    Args:
        json: Print JSON.
    """
    record = recorded().record
    now = record.clock()
    rows = [{**fields(effect), "age": now - moment(effect.updated_at)} for effect in open_effects(record)]
    columns = ("effect_id", "age", "state", "operation", "connection", "doubt", "attempt", "run_id", "updated_at")
    show(rows, columns, as_json=json, empty="No effect is open.")


@app.command
def twice(*, private: Flag = False, json: Json = False) -> None:
    """List effects that are known to have happened twice, with the receipt of each time.

    Example: ``orchestrator effects twice --private``

    Args:
        private: Show the receipts; they are decrypted with the key file.
        json: Print JSON.
    """
    rows = [
        {**fields(each), "answer": each.answer if json else told(each.answer)}
        for each in happened_twice(recorded().record, private=private)
    ]
    columns = ("effect_id", "attempt", "at", "operation", "connection", "run_id", "answer")
    show(rows, columns, as_json=json, empty="No effect is known to have happened twice.")


@app.command
def settle(effect: str, *, happened: Flag = False, retry: Flag = False, give_up: Flag = False) -> None:
    """Say what became of an effect that nobody else can know; its run goes on.

    Example: ``orchestrator effects settle f-0123456789abcdef0123456789abcdef --happened``

    Args:
        effect: The effect's id.
        happened: It happened: go on behind it.
        retry: It did not happen: do it (again).
        give_up: Do not do it; the process may take another way.
    """
    said = [
        cause for cause, is_so in ((Cause.HAPPENED, happened), (Cause.RETRY, retry), (Cause.GIVE_UP, give_up)) if is_so
    ]
    if len(said) != 1:
        raise ConfigurationError("say exactly one of --happened, --retry and --give-up")
    app = recorded()
    settle_effect(app.record, app.plugins.capabilities(), effect, said[0], this_user())
    say(f"Recorded: {said[0]}. The worker goes on with the run.")
