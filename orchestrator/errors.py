"""Every error of the orchestrator, grouped by what happens next.

OrchestratorError
├── ConfigurationError      something is written wrongly: names file, section, field and remedy
├── PluginError             a plug-in breaks the contract: names the plug-in and the remedy
├── ConnectorError          raised by connectors, always ``from`` the client library's exception
│   ├── Unavailable         the system cannot be reached or failed: the run tries again later
│   │   └── RateLimited     the system asks to wait: the run tries again after ``retry_after``
│   ├── AccessDenied        credential or permission is wrong: the run is parked for a person
│   ├── Rejected            the system refuses this request for good: the process decides
│   └── NotFound            the thing asked for does not exist: the process decides
├── EffectAbandoned         an operator gave up an effect: the process decides
├── AwaitingDecision        a question to a person is open: the run is parked until it is answered
├── RunError
│   ├── Diverged            the process no longer follows its own record: the run is parked
│   ├── RunParked           the run waits for a person
│   │   └── Unbound         nothing answers what its process needs: it waits for the configuration
│   ├── RunPostponed        the run goes on by itself at a later time
│   ├── RunFailed           the process raised an error of its own
│   ├── RunCancelled        a person cancelled the run: it goes no further
│   └── LeaseLost           another worker owns the run now: this one stops
├── NotRecorded             a run, event, effect, delivery or question is not in the record
└── RecordError             the record cannot be read or does not verify

Messages say what is wrong, where, and what to do. They never hold a secret, an address or a body.
"""

from __future__ import annotations

from datetime import datetime, timedelta


class OrchestratorError(Exception):
    """Anything that the orchestrator reports on purpose."""


class ConfigurationError(OrchestratorError):
    """Something is written wrongly; the message names file, section, field and remedy."""


class PluginError(OrchestratorError):
    """A plug-in breaks the contract; the message names the plug-in and the remedy."""


class ConnectorError(OrchestratorError):
    """A system did not do what was asked.

    Args:
        message: What is wrong, where, and what to do; no secret, address or body.
        no_effect: True only if the system has certainly not acted. Unknown means False: an effect
            whose outcome is unknown is *in doubt* and is settled as its connector declared.
    """

    certain_by_nature = False

    def __init__(self, message: str, *, no_effect: bool | None = None) -> None:
        super().__init__(message)
        self.no_effect = self.certain_by_nature if no_effect is None else no_effect


class Unavailable(ConnectorError):
    """The system cannot be reached or failed; the same request may work later."""


class RateLimited(Unavailable):
    """The system asks to wait; it has not acted, unless the connector says that nobody knows.

    Args:
        message: As for every connector error.
        retry_after: How long the system asks to wait, if it said so.
        no_effect: As for every connector error: False if the system may have acted before it asked.
    """

    certain_by_nature = True

    def __init__(self, message: str, *, retry_after: timedelta | None = None, no_effect: bool | None = None) -> None:
        super().__init__(message, no_effect=no_effect)
        self.retry_after = retry_after


class AccessDenied(ConnectorError):
    """The credential or a permission is wrong; only a person can fix it."""

    certain_by_nature = True


class Rejected(ConnectorError):
    """The system refuses this request for good, and has not acted."""

    certain_by_nature = True


class NotFound(ConnectorError):
    """The thing asked for does not exist."""

    certain_by_nature = True


class EffectAbandoned(OrchestratorError):
    """An operator gave up an effect; a process may take another way."""


class AwaitingDecision(OrchestratorError):
    """A question to a person is open; the run is parked until it is answered."""


class RunError(OrchestratorError):
    """A run did not come to its end."""


class Diverged(RunError):
    """The process asks for something else than its own record holds at this step."""


class RunParked(RunError):
    """The run waits for a person."""


class Unbound(RunParked):
    """Nothing answers what the run's process needs; it goes on by itself once something does."""


class RunPostponed(RunError):
    """The run goes on by itself at a later time.

    Args:
        message: Why it waits.
        due_at: When it goes on (UTC).
    """

    def __init__(self, message: str, *, due_at: datetime) -> None:
        super().__init__(message)
        self.due_at = due_at


class RunFailed(RunError):
    """The process raised an error of its own."""


class RunCancelled(RunError):
    """A person cancelled the run: it goes no further."""


class LeaseLost(RunError):
    """Another worker owns the run now; whatever this one still learns cannot move it."""


class NotRecorded(OrchestratorError):
    """A run, event, effect, delivery or question is not in the record."""


class RecordError(OrchestratorError):
    """The record cannot be read, or does not verify."""
