"""The house keeps its shape: floors, public names, light imports, one list of options."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import mmlu_pipe
from mmlu_pipe import api, errors, hookspecs, plugins
from mmlu_pipe.cli.root import root
from mmlu_pipe.config import RunConfig
from tests.conftest import ROOT

SOURCES = sorted((ROOT / "src" / "mmlu_pipe").rglob("*.py"))


def _fresh_python(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_imports_run_downwards_only() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout


def test_the_floors_are_the_ones_of_the_architecture_page() -> None:
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][
        0
    ]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for floor in " | ".join(floors["layers"]).split(" | "):
        assert f"`{floor}/`" in page or f"`{floor}.py`" in page, floor


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"azure", "datasets", "guidance", "openai", "numpy", "mlflow", "vcr", "rich", "httpx2", "pydantic", "yaml"}
    code = "import sys, mmlu_pipe; print(' '.join({name.split('.')[0] for name in sys.modules}))"
    assert not heavy & set(_fresh_python(code).split())


def test_help_loads_nothing_heavy() -> None:
    heavy = {"azure", "datasets", "guidance", "openai", "numpy", "mlflow", "vcr", "httpx2", "pydantic", "yaml"}
    code = (
        "import sys\nfrom mmlu_pipe.cli.root import invoke\n"
        "for arguments in (['--help'], ['run', '--help'], ['sweep', '--help']):\n"
        "    try: invoke(arguments)\n"
        "    except SystemExit as end: assert not end.code\n"
        "print('MODULES', ' '.join({name.split('.')[0] for name in sys.modules}))"
    )
    assert not heavy & set(_fresh_python(code).rpartition("MODULES")[2].split())


def test_the_public_names_are_these() -> None:
    assert mmlu_pipe.__all__ == [
        "Backend",
        "Call",
        "Check",
        "Comparison",
        "Diagnosis",
        "Endpoint",
        "Estimate",
        "Interval",
        "LineAnswer",
        "LineError",
        "LoadedRun",
        "MmluPipeError",
        "Plan",
        "Proof",
        "Published",
        "Rehearsal",
        "Run",
        "RunConfig",
        "Score",
        "Stage",
        "SubScore",
        "Sweep",
        "Verification",
        "__version__",
        "compare",
        "create_dataset",
        "doctor",
        "estimate",
        "hookimpl",
        "load_config",
        "load_run",
        "plan",
        "publish",
        "rehearse",
        "run",
        "score",
        "start",
        "sweep",
        "verify",
    ]
    assert all(getattr(mmlu_pipe, name) is not None for name in mmlu_pipe.__all__)
    assert dir(mmlu_pipe) == sorted(mmlu_pipe.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mmlu_pipe.nothing


def test_run_takes_the_same_options_in_python_on_the_command_line_and_in_the_manifest() -> None:
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert set(inspect.signature(api.run).parameters) == fields
    command = root.get_command(click.Context(root), "run")
    assert command is not None
    others = {"as_json", "config", "overrides", "prices", "wait"}
    assert {parameter.name for parameter in command.params} == fields | others


def test_run_has_the_same_defaults_in_python_and_on_the_command_line() -> None:
    defaults = RunConfig()
    for name, parameter in inspect.signature(api.run).parameters.items():
        ours = getattr(defaults, name)
        assert parameter.default == (str(ours) if isinstance(ours, Path) else ours), name


def test_every_error_has_an_exit_code_and_is_public_in_its_module() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert {value.__name__ for value in classes} == set(errors.__all__)
    assert all(value.exit_code in (1, 2) for value in classes)


def test_every_error_stands_in_the_tree_of_its_module() -> None:
    tree = errors.__doc__ or ""
    assert [name for name in errors.__all__ if name not in tree] == []


def test_every_builtin_plugin_loads_and_registers_its_kind() -> None:
    for kind, modules in plugins.BUILTINS.items():
        assert len(plugins.registry(kind)) >= len(modules), kind
        assert f"register_{kind}" in vars(hookspecs)


def test_no_source_file_is_long() -> None:
    long = {path.name: lines for path in SOURCES if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 360}
    assert long == {}
