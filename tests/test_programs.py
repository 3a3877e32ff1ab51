import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmlu_pipe.errors import ProgramError
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.programs import line_in, load_program, locate_program

NAMED = "def guidance_generation(lm, input):\n    return {'name': NAME}\n"
BODY = "def guidance_generation(lm, input):\n    return {'answer': 1}\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="program.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(path):
    with pytest.raises(ProgramError) as caught:
        load_program(path)
    assert caught.value.exit_code == 2
    assert caught.value.path == path
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


# What loads


@pytest.mark.parametrize(
    "name", ["program.py", "program", "program.txt", "input_file.py.download", "my program-2.PY", "prögram.py"]
)
def test_a_program_of_any_file_name_is_loaded(write, name):
    # AzureML may hand a file over without its suffix.
    path = write(BODY, name)
    program = load_program(path)
    assert program.function(None, {}) == {"answer": 1}
    assert (program.path, program.sha256) == (path, sha256_file(path))
    assert list(path.parent.iterdir()) == [path]  # no __pycache__


def test_a_relative_path_is_loaded(write, monkeypatch):
    path = write(BODY, "sub/program.py")
    monkeypatch.chdir(path.parent.parent)
    assert load_program(Path("sub/program.py")).function(None, {}) == {"answer": 1}


@pytest.mark.parametrize(
    "text",
    [
        "def guidance_generation(lm, input, few_shot=()):\n    return {}\n",
        "def guidance_generation(*arguments):\n    return {}\n",
        "guidance_generation = lambda lm, line: {}\n",
        "import functools\nguidance_generation = functools.partial(lambda extra, lm, line: {}, 1)\n",
        "class Answer:\n    def __call__(self, lm, input):\n        return {}\nguidance_generation = Answer()\n",
        "\ufeff" + BODY,
        "# -*- coding: latin-1 -*-\n" + BODY,
    ],
)
def test_any_callable_that_takes_both_is_an_entry_point(write, text):
    load_program(write(text))


def test_a_program_may_use_what_looks_up_its_module(write):
    path = write(
        "from __future__ import annotations\nimport dataclasses\nimport guidance\n\n"
        "@dataclasses.dataclass\nclass Answer:\n    number: int\n\n"
        "@guidance\ndef ask(lm, text):\n    return lm + text\n\n"
        "def guidance_generation(lm, input):\n    return dataclasses.asdict(Answer(1))\n"
    )
    assert load_program(path).function(None, {}) == {"number": 1}


def test_two_programs_stay_apart(write):
    one, two = (load_program(write(f"NAME = '{name}'\n{NAMED}", f"{name}/p.py")) for name in ("one", "two"))
    assert (one.function(None, {}), two.function(None, {})) == ({"name": "one"}, {"name": "two"})


# What does not


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "has no function guidance_generation(lm, input) -> dict; define it"),
        ("guidance_generation = 7\n", "has no function guidance_generation"),
        ("", "has no function guidance_generation"),
        (
            "def guidance_generation(lm):\n    return {}\n",
            "must take (lm, input) or (lm, input, examples): too many positional arguments",
        ),
        ("def guidance_generation():\n    return {}\n", "must take (lm, input)"),
        (
            "def guidance_generation(lm, input, examples, extra):\n    return {}\n",
            "must take (lm, input) or (lm, input, examples): missing",
        ),
        ("def guidance_generation(*, lm, input):\n    return {}\n", "must take (lm, input)"),
        ("async def guidance_generation(lm, input):\n    return {}\n", "is async; make it a plain function"),
        ("import builtins\nguidance_generation = builtins.dict.fromkeys\nguidance_generation = iter\n", "must take"),
    ],
)
def test_a_program_without_a_usable_entry_point_is_refused(write, text, said):
    assert said in refused(write(text))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\n\ndef broken(:\n    pass\n", 3, "SyntaxError"),
        ("x = 1\n   y = 2\n", 2, "IndentationError"),
        ("x = 'never closed\n", 1, "SyntaxError"),
        ("x = 1\nx.nothing\n", 2, "AttributeError"),
        ("def inner():\n    return 1 / 0\n\ninner()\n", 2, "ZeroDivisionError"),
        ("import json\n\njson.loads('{')\n", 3, "JSONDecodeError"),
        ("import sys\nsys.exit('usage: ...')\n", 2, "SystemExit: usage"),
        ("raise SystemExit\n", 1, "SystemExit"),
        ("\nimport nothing_of_that_name\n", 2, "ModuleNotFoundError"),
        ("from json import nothing\n", 1, "ImportError"),
        ("from . import sibling\n", 1, "ImportError"),
    ],
)
def test_a_program_that_does_not_import_is_refused_with_its_line(write, text, line, said):
    path = write(text)
    message = refused(path)
    assert message.startswith(f"{path}:{line}: cannot be imported ({said}")


@pytest.mark.parametrize("content", [b"x = '\xff'\n", b"x = 1\x00\n", b"# coding: nonsense\n"])
def test_a_file_that_is_no_python_text_is_refused(tmp_path, content):
    path = tmp_path / "program.py"
    path.write_bytes(content)
    assert "cannot be imported" in refused(path)


def test_a_missing_program_or_a_folder_is_refused(tmp_path):
    assert "no such guidance program" in refused(tmp_path / "nothing.py")
    assert "no such guidance program" in refused(tmp_path)


# Alone, as on a cluster

HINT = "a program stands alone: it may import installed packages only"


@pytest.fixture
def sibling(write):
    write("VALUE = 7\n", "a_sibling_of_the_program.py")
    write("VALUE = 8\n", "a_sibling_package/__init__.py")
    write("VALUE = 9\n", "a_sibling_package/inner.py")
    write("VALUE = 10\n", "a_sibling_namespace/inner.py")
    return write


IMPORTS = [
    "import a_sibling_of_the_program",
    "from a_sibling_package import VALUE",
    "import a_sibling_package.inner",
    "from a_sibling_namespace.inner import VALUE",
]


@pytest.mark.parametrize("statement", IMPORTS)
@pytest.mark.parametrize("where", ["beside", "working folder", "both", "sys.path", "imported before"])
def test_siblings_and_the_working_folder_cannot_be_imported(sibling, tmp_path, monkeypatch, statement, where):
    beside = where != "working folder"
    path = sibling(f"{statement}\n{BODY}", "program.py" if beside else "elsewhere/program.py")
    if where in ("working folder", "both"):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", ["", os.curdir, *sys.path])
    if where in ("sys.path", "imported before"):
        monkeypatch.setattr(sys, "path", [str(tmp_path), f"{tmp_path}/elsewhere/..", *sys.path])
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
    if where == "imported before":
        known = set(sys.modules)
        names = ["a_sibling_of_the_program", "a_sibling_package.inner", "a_sibling_namespace.inner"]
        before = [importlib.import_module(name) for name in names]
    saved = sys.path[:]
    message = refused(path)
    assert "ModuleNotFoundError" in message
    assert message.endswith(HINT)
    assert sys.path == saved
    if where == "imported before":
        assert [sys.modules[name] for name in names] == before  # as they were for everybody else
        for name in set(sys.modules) - known:
            del sys.modules[name]


@pytest.mark.parametrize("variable", ["PYTHONPATH", "cwd"])
def test_a_fresh_process_cannot_import_them_either(sibling, tmp_path, variable):
    path = sibling(f"import a_sibling_of_the_program\n{BODY}", "program.py" if variable == "PYTHONPATH" else "sub/p.py")
    script = "import pathlib, sys, mmlu_pipe.programs as p; p.load_program(pathlib.Path(sys.argv[1]))"
    environment = os.environ | ({"PYTHONPATH": str(tmp_path)} if variable == "PYTHONPATH" else {})
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=tmp_path if variable == "cwd" else Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.returncode == 1
    assert HINT in ended.stderr


def test_installed_packages_and_the_library_itself_can_be_imported(write, monkeypatch):
    import mmlu_pipe

    monkeypatch.chdir(Path(mmlu_pipe.__file__).parent.parent)
    load_program(write(f"import guidance, yaml, mmlu_pipe.records\n{BODY}"))
    assert sys.modules["mmlu_pipe"] is mmlu_pipe


def test_programs_loaded_by_many_threads_leave_the_path_as_it_was(write):
    paths = [write(f"NAME = {number}\n{NAMED}", f"{number}/p.py") for number in range(8)]
    before, found = sys.path[:], {}

    def work(number):
        for _ in range(10):
            found[number] = load_program(paths[number]).function(None, {})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: {"name": number} for number in range(8)}
    assert sys.path == before


# By name


def test_a_program_is_found_by_path_or_by_the_name_of_a_bundled_one(write, monkeypatch):
    path = write(BODY, "mine.py")
    assert locate_program(str(path)) == path
    assert locate_program("zero_shot").name == "zero_shot.py"
    monkeypatch.chdir(path.parent)
    (path.parent / "zero_shot").mkdir()  # a folder is no program
    assert locate_program("zero_shot").name == "zero_shot.py"
    with pytest.raises(ProgramError, match=r"nothing: no such file, and no bundled program of that name \(.*zero_shot"):
        locate_program("nothing")


def test_the_place_of_an_error_that_never_was_in_the_program_is_none(tmp_path):
    with pytest.raises(KeyError) as caught:
        raise KeyError
    assert line_in(tmp_path / "program.py", caught.value) is None
    assert line_in(Path(__file__), caught.value) is not None


def test_a_program_that_names_a_class_that_guidance_no_longer_has_is_told_where_the_mend_is(write):
    path = write("import guidance\n\n\ndef guidance_generation(lm: guidance.models.Chat, input):\n    return {}\n")
    assert "no such class any more: leave the model's class out, see docs/migrating.md" in refused(path)
