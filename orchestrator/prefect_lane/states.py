"""How a run's state is called in Prefect, and what its page says first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.kernel.run_states import RunState

if TYPE_CHECKING:  # a process and its fakes need no database
    from orchestrator.kernel.run_model import Run

TAG = "orchestrator"
"""Marks our deployments and flow runs in Prefect."""
REFERENCE = "run:"
"""A flow parameter with this prefix names a run whose input is on the record, not in Prefect."""
PARKED = "Parked"
"""A failed state in Prefect: terminal, so that nothing waits in memory, and with a *Retry* that works."""
POSTPONED = "Postponed"


def shown_state(run: Run) -> dict[str, str]:
    """Return the state that Prefect shows for a run that ended or stopped."""
    match run.state:
        case RunState.DONE:
            return {"type": "COMPLETED", "name": "Completed", "message": "Finished."}
        case RunState.PARKED:
            return {"type": "FAILED", "name": PARKED, "message": with_history(run.reason, run.run_id)}
        case RunState.CANCELLED:
            return {"type": "CANCELLED", "name": "Cancelled", "message": run.reason}
        case RunState.FAILED:
            return {"type": "FAILED", "name": "Failed", "message": with_remedy(run.reason, run.run_id)}
        case _:
            message = f"{run.reason}; tried again at {run.due_at:%Y-%m-%d %H:%M:%S} UTC"
            return {"type": "FAILED", "name": POSTPONED, "message": message}


def with_remedy(reason: str, run_id: str) -> str:
    """Say why a run failed, and what to do."""
    remedy = f"Correct the cause, then press Retry, or run: orchestrator runs resume {run_id}."
    return with_history(f"{reason.rstrip('.')}. {remedy}", run_id)


def with_history(reason: str, run_id: str) -> str:
    """Say why a run stopped, and where the whole record is."""
    return f"{reason.rstrip('.')}. What happened: orchestrator audit show {run_id}."
