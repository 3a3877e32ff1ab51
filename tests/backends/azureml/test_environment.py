"""The environment of a job: its pins, its document, and what would be missing."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mmlu_pipe import plugins
from mmlu_pipe.backends.azureml.environment import (
    IMAGE,
    PYTHON,
    differing_pins,
    environment_document,
    job_requirements,
    missing_plugins,
)
from mmlu_pipe.errors import ConfigError
from tests.conftest import ROOT

NOT_IN_A_JOB = {"click", "jinja2", "pydantic", "rich", "vl-convert-python"}  # of the command line and the report


def names(lines: list[str]) -> dict[str, str]:
    found = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in lines if line.strip() and line[0] != "#"]
    return {re.sub(r"[-_.]+", "-", name).lower(): line for name, line in zip(found, lines, strict=False)}


def pinned(path: str) -> dict[str, str]:
    lines = [line for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if "==" in line]
    return {name: line.partition("==")[2] for name, line in names(lines).items()}


# The pins


def test_the_file_holds_exact_pins_and_neither_hosts_nor_hashes() -> None:
    for line in (ROOT / "environments" / "requirements.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line


def test_a_job_runs_on_the_versions_that_the_tests_run_on() -> None:
    here, there = pinned("constraints.txt"), pinned("environments/requirements.txt")
    both = here.keys() & there.keys()
    assert len(both) > 50
    assert {name: there[name] for name in both} == {name: here[name] for name in both}


def test_a_job_has_all_that_the_package_depends_on_but_the_command_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = names(project["dependencies"]).keys() - NOT_IN_A_JOB
    assert wanted <= pinned("environments/requirements.txt").keys()
    asked = names((ROOT / "environments" / "requirements.in").read_text(encoding="utf-8").splitlines()[1:])
    assert wanted | {"azure-ai-ml", "azureml-mlflow", "mlflow-skinny"} <= asked.keys()


def test_the_package_itself_is_no_requirement() -> None:
    assert not [line for line in job_requirements() if "mmlu" in line]


# Further packages


def test_further_packages_come_after_the_pins() -> None:
    extra = ("my-plugin==1.0", "other[fast] >=2,<3", "third", "fourth @ https://example.org/fourth.whl")
    assert job_requirements(extra) == (*job_requirements(), *extra)


@pytest.mark.parametrize("extra", ["openai", "OpenAI", "{pin}", "openai == {version}"])
def test_a_further_package_that_is_there_already_changes_nothing(extra: str) -> None:
    version = pinned("environments/requirements.txt")["openai"]
    assert job_requirements([extra.format(pin=f"openai=={version}", version=version)]) == job_requirements()


@pytest.mark.parametrize("extra", ["openai==1.0", "OpenAI>=4", "azure.identity<1", "openai[extra]"])
def test_a_further_package_that_contradicts_a_pin_is_refused(extra: str) -> None:
    with pytest.raises(ConfigError, match="a job has") as caught:
        job_requirements([extra])
    assert caught.value.key == "extra_package"
    assert "--environment" in str(caught.value)


@pytest.mark.parametrize("extra", ["", " ", "-r file", "--index-url=https://example.org", "./plugin", "a b", "a==1\nb"])
def test_what_is_no_package_is_refused(extra: str) -> None:
    with pytest.raises(ConfigError, match="give a package"):
        job_requirements([extra])


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="use an address without one") as caught:
        job_requirements(["plugin @ https://somebody:hunter2@example.org/plugin.whl"])
    assert "hunter2" not in str(caught.value)


# The document


def test_the_document_is_an_image_and_the_pins_for_the_python_they_were_resolved_for() -> None:
    document = environment_document(["a==1"])
    assert (document["name"], document["image"]) == ("mmlu_pipe", IMAGE)
    assert document["conda_file"]["dependencies"] == [f"python={PYTHON}", "pip", {"pip": ["a==1"]}]
    assert "version" not in document
    readme = (ROOT / "environments" / "README.md").read_text(encoding="utf-8")
    assert f"Python {PYTHON}" in readme
    assert re.fullmatch(r"mcr\.microsoft\.com/azureml/[a-z0-9.-]+-ubuntu22\.04:\d{8}\.v\d", IMAGE)


@pytest.mark.skipif(
    importlib.util.find_spec("azure.ai") is None,
    reason="azure-ai-ml is not installed; install it with: pip install -c constraints.txt -e '.[test]'",
)
def test_the_sdk_loads_the_document_as_it_is(tmp_path: Path) -> None:
    document = environment_document(job_requirements(["my-plugin==1.0"])) | {"version": "1"}
    source = tmp_path / "environment.yml"
    source.write_text(json.dumps(document), encoding="utf-8")
    code = (
        "import sys, json; from azure.ai.ml import load_environment; e = load_environment(sys.argv[1]); e.validate()\n"
        "print(json.dumps([e.name, e.version, e.image, e.conda_file]))"
    )
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == ["mmlu_pipe", "1", IMAGE, document["conda_file"]]


# What would be missing


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed distribution `My_Plugin` with a plugin of another name."""
    (tmp_path / "theirs.py").write_text("", encoding="utf-8")
    info = tmp_path / "My_Plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: My_Plugin\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[mmlu_pipe]\nhooks = theirs\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "My_Plugin"


def loaded(monkeypatch: pytest.MonkeyPatch, *, off: bool) -> None:
    if not off:
        monkeypatch.delenv("MMLU_PIPE_NO_PLUGINS")
    plugins.manager.cache_clear()


def test_a_plugin_that_is_loaded_here_and_not_in_a_job_is_named(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(monkeypatch, off=False)
    try:
        assert missing_plugins() == [plugin]
        assert missing_plugins(["other"]) == [plugin]
        assert missing_plugins(["my-plugin==1.0"]) == []
    finally:
        plugins.manager.cache_clear()


def test_a_plugin_that_is_off_here_is_not_missed(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(monkeypatch, off=True)
    try:
        assert missing_plugins() == []
    finally:
        plugins.manager.cache_clear()


def test_a_version_here_that_decides_what_is_asked_and_is_not_the_jobs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "guidance-0.0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guidance\nVersion: 0.0.1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (told,) = differing_pins()
    version = pinned("environments/requirements.txt")["guidance"]
    assert told == f"guidance is 0.0.1 here and {version} in a job"


def test_the_versions_of_the_tests_are_the_jobs() -> None:
    assert differing_pins() == []


def test_nothing_of_azure_is_loaded_for_it() -> None:
    code = (
        "import sys; from mmlu_pipe.backends.azureml import environment, snapshot\n"
        "environment.environment_document(environment.job_requirements()); environment.missing_plugins()\n"
        "environment.differing_pins(); snapshot.snapshot_hash()\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert not {"azure", "guidance", "openai", "httpx2", "yaml"} & set(done.stdout.split())
