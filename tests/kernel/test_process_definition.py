"""What a process is refused for when it is made: everything that would stop its runs after their first effect."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator.errors import PluginError
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import RunState
from orchestrator.plugins import RegisterProcess
from tests.support.kernel_bench import Bench, Done, Errand, FakeSystem
from tests.support.plugins import plugin, report_on

HEAD = """\
from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.kernel_bench import Done, Errand
from orchestrator.capabilities import Mailer, OutgoingMail, Value
from orchestrator.process import process

if TYPE_CHECKING:
    from somewhere import Later


class Half(Value):
    later: Later


class Strange:
    pass


"""
BODIES: dict[str, tuple[str, str]] = {
    "an input that is not there": (
        "def late(errand: Later, *, mailer: Mailer) -> Done: ...",
        "its annotations cannot be resolved (NameError: name 'Later' is not defined)",
    ),
    "a need that is not there": (
        "def late(errand: Errand, *, mailer: Later) -> Done: ...",
        "its annotations cannot be resolved (NameError: name 'Later' is not defined)",
    ),
    "a result that is not there": (
        "def late(errand: Errand, *, mailer: Mailer) -> Later: ...",
        "its annotations cannot be resolved (NameError: name 'Later' is not defined)",
    ),
    "an input with a field that is not there": (
        "def late(errand: Half, *, mailer: Mailer) -> Done: ...",
        "its input Half cannot be written down (PydanticUndefinedAnnotation: name 'Later' is not defined)",
    ),
    "a result with a field that is not there": (
        "def late(errand: Errand, *, mailer: Mailer) -> Half: ...",
        "its result Half cannot be written down (PydanticUndefinedAnnotation: name 'Later' is not defined)",
    ),
    "a result that cannot be written down": (
        "def late(errand: Errand, *, mailer: Mailer) -> Strange: ...",
        "its result Strange cannot be written down (PydanticSchemaGenerationError)",
    ),
    "asynchronous": (
        "async def late(errand: Errand, *, mailer: Mailer) -> Done: ...",
        "it is async; write a plain `def late`",
    ),
    "a generator": (
        "def late(errand: Errand, *, mailer: Mailer) -> Done:\n    yield mailer",
        "it is a generator, whose body never runs; write `return` instead of `yield`",
    ),
    "two inputs": (
        "def late(errand: Errand, other: Errand, *, mailer: Mailer) -> Done: ...",
        "before the '*' stands exactly one parameter",
    ),
    "a need that is no capability": (
        "def late(errand: Errand, *, mailer: Strange) -> Done: ...",
        "parameter mailer after the '*' must be typed with a capability",
    ),
}


def imported(file: Path, body: str) -> ModuleType:
    """Import a file that offers one process, as an entry point does."""
    file.write_text(f'{HEAD}@process("late")\n{body}\n')
    spec = spec_from_file_location("late_plugin", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("body", "problem"), BODIES.values(), ids=BODIES)
def test_a_process_that_could_not_work_is_refused_when_it_is_made(tmp_path: Path, body: str, problem: str) -> None:
    file = tmp_path / "late.py"
    with pytest.raises(PluginError) as refused:
        imported(file, body)
    line = HEAD.count("\n") + 1
    assert str(refused.value).startswith(f"process late ({file}, line {line}): ")
    assert problem in str(refused.value)


def test_a_plugin_with_such_a_process_is_reported_by_name(tmp_path: Path) -> None:
    def register_processes(register: RegisterProcess) -> None:
        register(imported(tmp_path / "late.py", BODIES["asynchronous"][0]).late)

    report = report_on(plugin(register_processes=register_processes), "acme", load="processes")
    assert (report.name, report.state) == ("acme", "broken")
    assert report.problem.startswith(f"process late ({tmp_path}/late.py, line ")


def test_the_names_of_a_script_are_not_needed_once_its_process_is_made(
    tmp_path: Path, bench: Bench, system: FakeSystem
) -> None:
    """Whoever serves the flow may have taken them away: the first effect must not be done in vain."""
    body = (
        "def late(errand: Errand, *, mailer: Mailer) -> Done:\n"
        "    mailer.send(OutgoingMail(to=errand.email, subject='One', text='One'))\n"
        "    return RESULT\n\n\nRESULT = Done()"
    )
    module = imported(tmp_path / "late.py", body)
    del module.Done
    run_id = bench.open(module.late.definition)
    assert bench.kernel.execute(module.late.definition, run_id) == Done()
    assert bench.run(run_id).state is RunState.DONE
    assert system.calls == ["send"]


def test_the_source_of_a_process_must_be_known() -> None:
    names: dict[str, Any] = {"Errand": Errand}
    exec("def typed(errand: Errand) -> None: ...", names)  # as at Python's prompt
    with pytest.raises(PluginError, match="its source cannot be read"):
        ProcessDefinition("typed", names["typed"])
