"""How a run's state is called in Prefect."""

from __future__ import annotations

from orchestrator.kernel.runs import Run, RunState

PARKED = "Parked"
"""A failed state in Prefect: terminal, so that nothing waits in memory, and with a *Retry* that works."""
POSTPONED = "Postponed"


def shown_state(run: Run) -> dict[str, str]:
    """Return the state that Prefect shows for a run that ended or stopped."""
    match run.state:
        case RunState.DONE:
            return {"type": "COMPLETED", "name": "Completed", "message": "Finished; see the table of steps."}
        case RunState.PARKED:
            return {"type": "FAILED", "name": PARKED, "message": run.reason}
        case RunState.CANCELLED:
            return {"type": "CANCELLED", "name": "Cancelled", "message": run.reason}
        case RunState.FAILED:
            return {"type": "FAILED", "name": "Failed", "message": run.reason}
        case _:
            message = f"{run.reason}; tried again at {run.due_at:%Y-%m-%d %H:%M:%S} UTC"
            return {"type": "FAILED", "name": POSTPONED, "message": message}
