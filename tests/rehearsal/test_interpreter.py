"""The Python of a job's steps, made with pip from a folder of wheels."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmlu_pipe.errors import BackendError
from mmlu_pipe.rehearsal import interpreter
from mmlu_pipe.rehearsal.interpreter import installed_interpreter, job_interpreter


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pins one package, which is in a folder and on no index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "pinned-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pinned.py", "")
        wheel.writestr("pinned-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pinned\nVersion: 1.0\n")
        wheel.writestr("pinned-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("pinned-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = tmp_path / "requirements.txt"
    found.write_text("pinned==1.0\n", encoding="utf-8")
    return found


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "mmlu_pipe").iterdir() if path.is_dir())


def imports(python: Path, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def test_it_has_the_pins_and_not_the_package_and_is_made_once_in_place_of_a_broken_one(
    requirements: Path, tmp_path: Path
) -> None:
    broken = interpreter._home(requirements)
    broken.mkdir(parents=True)
    (broken / "left.txt").touch()
    assert installed_interpreter(requirements) is None
    python = job_interpreter(requirements)
    code = "import sys, pinned; print(sys.prefix, pinned.__file__)"
    said = subprocess.run([python, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert said.count(str(broken)) == 2  # it runs from where it was moved to
    assert not imports(python, "mmlu_pipe")
    made = python.lstat().st_ino
    assert job_interpreter(requirements).lstat().st_ino == made
    assert folders(tmp_path) == [broken.name]
    requirements.write_text("pinned==2.0\n", encoding="utf-8")
    assert installed_interpreter(requirements) is None


def test_two_makers_make_it_once(requirements: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from mmlu_pipe.rehearsal.interpreter import job_interpreter\n"
        "python = job_interpreter(pathlib.Path(sys.argv[1])); print(python, python.lstat().st_ino)"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(requirements)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [maker.communicate(timeout=120) for maker in makers]
    assert said[0] == said[1], said
    assert said[0][0]
    assert len(folders(tmp_path)) == 1


def test_a_pin_that_cannot_be_had_says_so_with_the_command_and_leaves_nothing(
    requirements: Path, tmp_path: Path
) -> None:
    requirements.write_text("pinned==2.0\n", encoding="utf-8")
    with pytest.raises(BackendError, match=r"(?s)pinned==2\.0.*python -m mmlu_pipe\.rehearsal"):
        job_interpreter(requirements)
    assert folders(tmp_path) == []
    assert installed_interpreter(requirements) is None


def test_an_installation_that_takes_too_long_is_ended(requirements: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "_INSTALL_TIMEOUT_S", 0.001)
    with pytest.raises(BackendError, match="timed out"):
        job_interpreter(requirements)


def test_the_command_installs_azurite_and_it(requirements: Path, tmp_path: Path, azurite_cache: str) -> None:
    code = (
        "import sys, pathlib; from mmlu_pipe.rehearsal import __main__\n"
        "__main__.bundled_requirements = lambda: pathlib.Path(sys.argv[1]); sys.exit(__main__.main())"
    )
    cache = tmp_path / "cache" / "mmlu_pipe"
    cache.mkdir(parents=True)
    for path in Path(azurite_cache, "mmlu_pipe").glob("azurite-*"):
        (cache / path.name).symlink_to(path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(requirements)],
        env=os.environ.copy(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    azurite, python = done.stdout.splitlines()
    assert azurite.endswith("main.js")
    assert imports(Path(python), "pinned")
