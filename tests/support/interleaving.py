"""Workers that stand still wherever a process can die or fall asleep, and go on one at a time."""

from __future__ import annotations

from collections.abc import Callable
from threading import Semaphore, Thread

DEADLINE_SECONDS = 60


class Crash(BaseException):
    """The process dies where it stands: nothing catches it."""


class Worker:
    """A thread that stands still at each boundary until it is told to go on, or to die.

    Only one thread runs at any time: whoever told it waits until it stands or has ended.

    Args:
        name: The worker's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.at: str | None = None
        """The boundary where it stands; None if it does nothing."""
        self._turn, self._stood = Semaphore(0), Semaphore(0)
        self._dies = False
        self._thread: Thread | None = None
        self._problem: BaseException | None = None

    @property
    def idle(self) -> bool:
        """Whether it does nothing."""
        return self.at is None

    def start(self, task: Callable[[], object]) -> None:
        """Begin a task, and run to its first boundary."""
        self._dies = False
        self._thread = Thread(target=self._work, args=(task,), name=self.name)
        self._thread.start()
        self._wait()

    def go_on(self) -> None:
        """Run to the next boundary, or to the end."""
        self._turn.release()
        self._wait()

    def die(self) -> None:
        """End where it stands."""
        self._dies = True
        self.go_on()

    def boundary(self, kind: str) -> None:
        """Stand still; called by the worker's own thread."""
        self.at = kind
        self._stood.release()
        assert self._turn.acquire(timeout=DEADLINE_SECONDS), "nobody lets this worker go on"
        if self._dies:
            raise Crash

    def _work(self, task: Callable[[], object]) -> None:
        try:
            task()
        except Crash:
            pass
        except BaseException as exc:  # noqa: BLE001 - handed to whoever waits
            self._problem = exc
        finally:
            self.at = None
            self._stood.release()

    def _wait(self) -> None:
        assert self._stood.acquire(timeout=DEADLINE_SECONDS), f"{self.name} neither stands still nor ends"
        if self.at is None and self._thread is not None:
            self._thread.join()
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem
