"""A worker's sweep: all runs are taken up, never more at once than there is room for; others are told of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event, Lock, Thread

from orchestrator.bootstrap import Application
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Opening, RunState, new_run_id
from orchestrator.plugins.host import PluginHost
from orchestrator.record.trail import SYSTEM
from orchestrator.record.wakeup import Woken
from orchestrator.sandbox.systems import wait_until
from orchestrator.worker.dispatcher import Dispatcher
from tests.support.configurations import load
from tests.support.plugins import with_processes
from tests.support.webhooks import Order, Process

ROOM = 3
SECONDS = 20.0


class Crowd:
    """The body of a process that counts how many of its runs are executed at once."""

    def __init__(self) -> None:
        self._counting = Lock()
        self._now = 0
        self.most = 0
        self.opens = Event()

    def __call__(self, request: Order) -> str:
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        assert self.opens.wait(SECONDS)
        with self._counting:
            self._now -= 1
        return "served"


def worker(folder: Path, body: Callable[[Order], str]) -> Application:
    settings = load(
        folder,
        f'store = {{url = "sqlite:///{folder}/record.db", key_file = "{folder}/keys/key"}}\n'
        f"worker = {{in_flight = {ROOM}}}\n",
    )
    process = Process(ProcessDefinition("serve", _named(body), case_key=lambda order: order.email))
    return Application(settings, plugins=PluginHost(extra={"acme": with_processes(process)}))


def _named(body: Callable[[Order], str]) -> Callable[[Order], str]:
    def serve(request: Order) -> str:
        """Serve an order."""
        return body(request)

    return serve


def open_runs(app: Application, count: int) -> None:
    with app.record.store.write() as tx:
        for number in range(count):
            request = Order(email=f"ann{number}@example.com")
            app.runs.open(
                tx,
                Opening(definition=app.definition("serve"), request=request, run_id=new_run_id(), actor=SYSTEM),
            )


@contextmanager
def sweeping(app: Application) -> Iterator[None]:
    stop = Event()
    thread = Thread(target=Dispatcher(app, stop).run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        app.work_waits.wake_here()
        thread.join(SECONDS)
        assert not thread.is_alive()
        app.record.store.close()


def done(app: Application) -> int:
    return len(app.runs.listed(state=RunState.DONE, limit=1000))


def test_all_are_executed_and_never_more_at_once_than_there_is_room_for(tmp_path: Path) -> None:
    crowd = Crowd()
    app = worker(tmp_path, crowd)
    open_runs(app, 40)
    with sweeping(app):
        wait_until(lambda: crowd.most == ROOM, SECONDS)
        open_runs(app, 10)
        crowd.opens.set()
        wait_until(lambda: done(app) == 50, SECONDS)
    assert crowd.most == ROOM


def test_what_ends_together_is_followed_by_as_many(tmp_path: Path) -> None:
    together = Barrier(ROOM)
    app = worker(tmp_path, lambda _: str(together.wait(SECONDS)))
    open_runs(app, 10 * ROOM)
    with sweeping(app):
        try:
            wait_until(lambda: done(app) == 10 * ROOM, SECONDS)
        except BrokenBarrierError:
            together.abort()
            raise


def test_who_is_full_passes_on_what_it_was_woken_for(tmp_path: Path) -> None:
    crowd = Crowd()
    app, other = worker(tmp_path, crowd), worker(tmp_path, crowd)
    open_runs(app, ROOM)
    with sweeping(app):
        wait_until(lambda: crowd.most == ROOM, SECONDS)
        other.work_waits.wait(0)
        open_runs(app, 1)
        assert other.work_waits.wait(SECONDS) is Woken.EVERYBODY
        crowd.opens.set()
        wait_until(lambda: done(app) == ROOM + 1, SECONDS)
    other.record.store.close()


def test_a_worker_that_stops_takes_nothing_up_any_more(tmp_path: Path) -> None:
    crowd = Crowd()
    app = worker(tmp_path, crowd)
    open_runs(app, 2 * ROOM)
    stop = Event()
    thread = Thread(target=Dispatcher(app, stop).run, daemon=True)
    thread.start()
    wait_until(lambda: crowd.most == ROOM, SECONDS)
    stop.set()
    crowd.opens.set()
    app.work_waits.wake_here()
    thread.join(SECONDS)
    assert done(app) == ROOM
    assert len(app.runs.listed(state=RunState.READY, limit=1000)) == ROOM
    app.record.store.close()
