"""The pytest plugin, used as a user's suite uses it: by pytester, and the example suite in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe import pytest_plugin
from mmlu_pipe.recording.shards import read_shard
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer

pytest_plugins = ["pytester"]

EXAMPLE = ROOT / "examples" / "test_suite"
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
MARKED = (
    'import json, pytest\npytestmark = pytest.mark.mmlu_cassette("cassettes/my_program", program="my_program.py")\n'
)
QUESTION = "import pathlib\nLINE = json.loads(pathlib.Path('questions.jsonl').read_text().partition('\\n')[0])\n"
A_TRACEBACK = r"Traceback|^E  |^>  |\.py:\d+:|above exception|During handling"

WriteConfig = Callable[..., Path]
Suite = Callable[..., pytest.RunResult]


@pytest.fixture(scope="module", autouse=True)
def _all_is_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A session inside this process forgets the modules that it loads first; not all bear to be loaded twice."""
    for module in pkgutil.walk_packages(mmlu_pipe.__path__, "mmlu_pipe."):
        if module.name.startswith(("mmlu_pipe.endpoint.", "mmlu_pipe.recording.")):
            importlib.import_module(module.name)
    mmlu_pipe.run(limit=1, output_dir=tmp_path_factory.mktemp("run"))


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Run a test module beside the example's program, questions and cassette; no other plugin is loaded."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    shutil.copytree(EXAMPLE, pytester.path, dirs_exist_ok=True)
    (pytester.path / "test_my_program.py").unlink()

    def run(code: str, *arguments: str | Path, before: str = MARKED + QUESTION) -> pytest.RunResult:
        pytester.makepyfile(test_it=before + code)
        quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # this process has loaded the plugin before
        return pytester.runpytest_inprocess("-p", "mmlu_pipe.pytest_plugin", "--strict-markers", *quiet, *arguments)

    return run


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Something on this machine that a test may try to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch, write_config: WriteConfig) -> Iterator[tuple[AoaiServer, list[str]]]:
    """A live endpoint that answers "1", and the options that record from it."""
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    with AoaiServer(answer=lambda _body, _count: json.dumps({"choice": "1"})) as server:
        config = write_config(server.endpoint)
        yield server, ["--mmlu-record-mode", "new_episodes", "--mmlu-other-config", str(config)]


def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def nobody_came(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return True
    return False


# Loading


def test_loading_imports_only_pytest_and_the_standard_library() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules)\n"
        "import mmlu_pipe.pytest_plugin; print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in loaded if name.startswith("mmlu_pipe")} == {"mmlu_pipe", "mmlu_pipe.pytest_plugin"}
    assert {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) == {"mmlu_pipe"}


def test_a_session_without_the_marker_loads_nothing_more(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_modules(tmp_path, monkeypatch):
            heavy = {"guidance", "openai", "azure", "vcr", "yaml", "numpy", "mmlu_pipe.endpoint", "mmlu_pipe.errors"}
            assert not heavy & set(sys.modules)
        """
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "mmlu_pipe.pytest_plugin"],
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_test_without_the_marker_keeps_its_network_before_and_after_one_with_it(
    suite: Suite, listener: socket.socket
) -> None:
    suite(
        f"""
        import socket

        def untouched():
            names = ("connect", "connect_ex", "sendto")
            socket.create_connection(("127.0.0.1", {port(listener)})).close()
            return not set(names) & vars(socket.socket).keys() and socket.getaddrinfo.__module__ == "socket"

        def test_before(tmp_path):
            assert untouched()

        @pytest.mark.mmlu_cassette("cassettes/my_program")
        def test_marked():
            assert "connect" in vars(socket.socket)

        def test_after():
            assert untouched()
        """.replace("\n        ", "\n"),
        before="import pytest\n",
    ).assert_outcomes(passed=3)


# Fixtures


def test_a_line_goes_through_a_program_and_its_calls_are_told(suite: Suite) -> None:
    suite(
        """
def test_it(mmlu_run_line, mmlu_calls):
    assert mmlu_calls() == []
    assert mmlu_run_line(LINE) == {"my_choice": 2, "my_text": "Near the northern horizon"}
    assert mmlu_run_line(LINE, program="zero_shot") == {"zero_shot_choice": 2}
    first, second = mmlu_calls()
    assert first.request_hash == second.request_hash and first.text == '{"choice":"2"}'
    assert [first.line_number, second.line_number] == [1, 2]

def test_calls_are_those_of_the_test(mmlu_calls):
    assert mmlu_calls() == []

def test_the_line_is_left_as_it_is(mmlu_run_line, tmp_path):
    program = tmp_path / "nosy.py"
    program.write_text("def guidance_generation(lm, input):\\n  input['choices'].clear()\\n  return {'new': (1, 2)}")
    assert mmlu_run_line(LINE, program) == {"new": [1, 2]}
    assert len(LINE["choices"]) == 4
"""
    ).assert_outcomes(passed=3)


def test_the_model_replays_and_is_fresh_in_every_test(suite: Suite) -> None:
    suite(
        """
import my_program

@pytest.mark.parametrize("time", [1, 2])
def test_it(mmlu_model, mmlu_calls, time):
    assert str(mmlu_model) == "" and mmlu_calls() == []
    lm = mmlu_model + my_program.multiple_choice(LINE["question"], LINE["choices"])
    assert lm["choice"] == "2" and len(mmlu_calls()) == 1
""",
        "-p",
        "no:cacheprovider",
    ).assert_outcomes(passed=2)


def test_a_file_goes_through_the_whole_pipeline(suite: Suite) -> None:
    suite(
        """
def test_it(mmlu_run_file, mmlu_run_line, mmlu_calls, tmp_path):
    mmlu_run_line(LINE)
    run = mmlu_run_file("questions.jsonl", response_key="my_choice", workers=2)
    assert (run.status, run.score.count, run.score.n_correct) == ("completed", 6, 3)
    assert tmp_path in run.run_dir.parents
    assert [call.line_number for call in mmlu_calls()] == [1, 1, 2, 3, 4, 5, 6]
    again = mmlu_run_file("questions.jsonl", "zero_shot", limit=2)
    assert (again.score.n_correct, len(mmlu_calls())) == (2, 9)
"""
    ).assert_outcomes(passed=1)


def test_the_program_and_the_way_to_ask_come_from_the_marker(suite: Suite) -> None:
    suite(
        """
@pytest.mark.mmlu_cassette("cassettes/my_program")
def test_the_default_program_is_the_one_of_a_run(mmlu_run_line):
    assert mmlu_run_line(LINE) == {"zero_shot_choice": 2}

@pytest.mark.mmlu_cassette("cassettes/my_program", select_strategy="text")
def test_another_way_to_ask_is_another_request(mmlu_run_line, mmlu_run_file):
    with pytest.raises(Exception, match="no recording"):
        mmlu_run_line(LINE)
    with pytest.raises(Exception, match="no recording"):
        mmlu_run_file("questions.jsonl")
    assert mmlu_run_file("questions.jsonl", select_strategy="auto").score.count == 6
"""
    ).assert_outcomes(passed=2)


def test_what_fails_is_raised_as_what_it_is(suite: Suite) -> None:
    suite(
        """
from mmlu_pipe.errors import CassetteMiss, ProgramError

def guilty(tmp_path, body):
    path = tmp_path / "guilty.py"
    path.write_text(f"def guidance_generation(lm, input):\\n    {body}\\n" * (body != "nothing"))
    return path

@pytest.mark.parametrize(("body", "kind", "text"), [
    ("raise KeyError('mine')", KeyError, "mine"),
    ("return {'question': 1}", ProgramError, "already has"),
    ("return 3", ProgramError, "must return a dict"),
    ("nothing", ProgramError, "has no function"),
    ("exit('left')", SystemExit, "left"),
])
def test_it(mmlu_run_line, tmp_path, body, kind, text):
    with pytest.raises(kind, match=text):
        mmlu_run_line(LINE, guilty(tmp_path, body))

def test_no_such_program(mmlu_run_line):
    with pytest.raises(ProgramError, match="no bundled program"):
        mmlu_run_line(LINE, "nothing.py")

def test_a_miss(mmlu_run_line):
    with pytest.raises(CassetteMiss) as found:
        mmlu_run_line(LINE | {"question": "Why?"})
    assert "messages" in found.value.nearest
"""
    ).assert_outcomes(passed=7)


def test_a_program_cannot_hide_a_miss(suite: Suite) -> None:
    suite(
        """
PROGRAM = '''
import guidance
def guidance_generation(lm, input):
    try:
        with guidance.user():
            lm += "Never recorded"
        with guidance.assistant():
            lm += guidance.gen("text")
    except Exception:
        return {"new": None}
'''

def test_it(mmlu_run_line, tmp_path):
    path = tmp_path / "hides.py"
    path.write_text(PROGRAM)
    with pytest.raises(Exception, match="hides that a call failed"):
        mmlu_run_line(LINE, path)
"""
    ).assert_outcomes(passed=1)


def test_a_miss_that_fails_a_test_is_told_with_the_command_that_records(suite: Suite) -> None:
    done = suite("def test_it(mmlu_run_line):\n    mmlu_run_line(LINE | {'question': 'Why?'})\n")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*CassetteMiss: my_program: no recording for a request*nearest*",
            "*pytest test_it.py::test_it --mmlu-record-mode new_episodes --mmlu-other-config FILE",
        ]
    )


# Markers


def test_the_closest_marker_wins(suite: Suite, pytester: pytest.Pytester) -> None:
    suite(
        f"""
class TestNear:
    pytestmark = pytest.mark.mmlu_cassette("cassettes/my_program")

    def test_class(self, mmlu_run_line):
        assert mmlu_run_line(LINE) == {{"zero_shot_choice": 2}}

    @pytest.mark.mmlu_cassette({str(pytester.path / "cassettes" / "my_program")!r}, program="my_program.py")
    def test_function(self, mmlu_run_line):
        assert mmlu_run_line(LINE)["my_choice"] == 2

def test_module():
    pass
""",
        before='import json, pytest\npytestmark = pytest.mark.mmlu_cassette("nowhere")\n' + QUESTION,
    ).assert_outcomes(passed=2, errors=1)


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("'nowhere'", "there are no recordings in *nowhere*pytest 'test_it.py::test_it[[]a b]' --mmlu-record-mode *"),
        ("", "missing 1 required positional argument: 'folder'"),
        ("3", "unsupported operand"),
        ("'cassettes/my_program', must_play=True", "unexpected keyword argument 'must_play'"),
        (
            "'cassettes/my_program', other_config='absent.json'",
            "*absent.json: the endpoint configuration cannot be read*",
        ),
        ("'bare'", "bare: has no provenance.json*"),
        ("'torn'", "*astronomy.yaml*"),
    ],
)
def test_a_wrong_marker_is_told_without_a_traceback(
    suite: Suite, pytester: pytest.Pytester, marker: str, told: str
) -> None:
    for name in ("bare", "torn"):
        shutil.copytree(pytester.path / "cassettes" / "my_program", pytester.path / name)
    (pytester.path / "bare" / "provenance.json").unlink()
    (pytester.path / "torn" / "astronomy.yaml").write_text("interactions: [", encoding="utf-8")
    done = suite(
        f"""
@pytest.mark.mmlu_cassette({marker})
@pytest.mark.parametrize("name", ["a b"])
def test_it(mmlu_model, name):
    pass
"""
    )
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"test_it.py::test_it*{told}*"])
    assert "@pytest.mark.mmlu_cassette(" in done.stdout.str()
    assert not re.search(A_TRACEBACK, done.stdout.str(), re.MULTILINE)


def test_a_fixture_without_the_marker_is_told_without_a_traceback(suite: Suite) -> None:
    done = suite("def test_it(mmlu_run_file):\n    pass\n", before="")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*test_it.py::test_it: the mmlu_ fixtures need mmlu_cassette(folder*"])
    assert not re.search(A_TRACEBACK, done.stdout.str(), re.MULTILINE)


def test_a_skipped_test_needs_no_cassette(suite: Suite) -> None:
    suite(
        "@pytest.mark.skip\n@pytest.mark.mmlu_cassette('nowhere')\ndef test_it(mmlu_model):\n    pass\n"
    ).assert_outcomes(skipped=1)


# No network


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', PORT))",
        "socket.create_connection(('localhost', PORT))",
        "socket.socket().connect_ex(('127.0.0.1', PORT))",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', PORT))",
        "socket.getaddrinfo('example.invalid', 443)",
        "CONTEXT.wrap_socket(socket.socket(), do_handshake_on_connect=False).connect(('127.0.0.1', PORT))",
        "urllib.request.urlopen(f'http://127.0.0.1:{PORT}/', timeout=1)",
        "asyncio.run(asyncio.open_connection('127.0.0.1', PORT))",
        "ThreadPoolExecutor().submit(socket.create_connection, ('127.0.0.1', PORT)).result()",
    ],
)
def test_the_network_is_forbidden_in_a_test_with_the_marker(
    suite: Suite, listener: socket.socket, attempt: str
) -> None:
    done = suite(
        f"""
import asyncio, socket, ssl, urllib.request
from concurrent.futures import ThreadPoolExecutor
PORT = {port(listener)}
CONTEXT = ssl._create_unverified_context()

def test_it():
    {attempt}
""",
        "-W",
        "ignore::ResourceWarning",
    )
    done.assert_outcomes(failed=1)
    marker = "@pytest.mark.mmlu_cassette('cassettes/my_program')"
    done.stdout.fnmatch_lines([f"E * test_it.py::test_it: {marker}: the network is forbidden*--mmlu-record-mode*"])
    assert nobody_came(listener)


@pytest.mark.parametrize(
    "attempt",
    [
        "try: connect()\n    except BaseException: pass",
        "thread = threading.Thread(target=connect)\n    thread.start()\n    thread.join()",
        "mmlu_run_file(write(tmp_path, 'questions.jsonl'), tmp_path / 'calls_home.py', max_errors='100%')",
    ],
    ids=["swallowed", "thread", "engine"],
)
def test_an_attempt_that_is_hidden_fails_the_test_as_well(suite: Suite, listener: socket.socket, attempt: str) -> None:
    done = suite(
        f"""
import socket, threading

def connect():
    socket.create_connection(("127.0.0.1", {port(listener)}))

def write(folder, dataset):
    text = "import socket\\ndef guidance_generation(lm, input):\\n    socket.create_connection(('127.0.0.1', 1))\\n"
    (folder / "calls_home.py").write_text(text)
    return dataset

def test_it(mmlu_run_file, tmp_path):
    {attempt}
""",
        "-W",
        "ignore",
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*the network is forbidden in this test; connect ('127.0.0.1', *) was refused, and that*"]
    )
    assert nobody_came(listener)


def test_what_stays_inside_the_machine_and_the_process_goes_on(suite: Suite, listener: socket.socket) -> None:
    suite(
        f"""
import asyncio, multiprocessing, socket

def test_sockets_of_unix_and_event_loops(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("here")
        server.listen()
        client.connect("here")
    asyncio.run(asyncio.sleep(0))

def test_processes():
    with multiprocessing.Manager() as manager:
        assert manager.list([1])[0] == 1

def test_a_server_of_the_test_itself():
    with socket.create_server(("localhost", 0)):
        assert socket.getaddrinfo(None, 80)

def test_pairs_without_unix_sockets():
    def socketpair():
        with socket.socket() as client:
            client.connect(("127.0.0.1", {port(listener)}))
    socketpair()
""",
        "-W",
        "ignore::DeprecationWarning",
    ).assert_outcomes(passed=4)


def test_fixtures_of_the_test_are_guarded_and_those_of_wider_scope_are_not(
    suite: Suite, listener: socket.socket
) -> None:
    done = suite(
        f"""
import socket

def connect():
    socket.create_connection(("127.0.0.1", {port(listener)})).close()

@pytest.fixture(scope="module")
def wide():
    connect()
    yield
    connect()

@pytest.fixture
def narrow():
    connect()

@pytest.fixture
def late():
    yield
    connect()

def test_wide(wide, tmp_path):
    pass

def test_narrow(wide, narrow):
    pass

def test_late(late):
    pass
"""
    )
    done.assert_outcomes(passed=2, errors=2)
    done.stdout.fnmatch_lines(
        ["*test_it.py::test_narrow: *the network is*", "*test_it.py::test_late: *the network is*"]
    )


# Recording


def test_answers_are_recorded_and_then_replayed(suite: Suite, recording: tuple, pytester: pytest.Pytester) -> None:
    server, options = recording
    code = """
pytestmark = pytest.mark.mmlu_cassette("new/cassette", program="my_program.py", must_play_all=True)

def test_it(mmlu_run_line, mmlu_run_file, mmlu_model):
    assert mmlu_run_line(LINE)["my_choice"] == 1
    assert mmlu_run_line(LINE)["my_choice"] == 1
    assert mmlu_run_file("questions.jsonl", response_key="my_choice", workers=1).score.n_correct == 2
    import guidance
    with guidance.user():
        mmlu_model += "Say something"
    with guidance.assistant():
        mmlu_model += guidance.gen("text")
    assert mmlu_model["text"] == '{"choice": "1"}'
"""
    missing = suite(code)
    missing.assert_outcomes(errors=1)
    suite(code, *options).assert_outcomes(passed=1)
    assert len(server.requests) == 7
    folder = pytester.path / "new" / "cassette"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("astronomy.yaml", "default.yaml", "marketing.yaml", "philosophy.yaml", "provenance.json")
    ]
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert (provenance["model"], provenance["endpoint_kind"]) == ("gpt-4o", "loopback")
    assert "test-key" not in "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
    suite(code).assert_outcomes(passed=1)
    suite(code, *options).assert_outcomes(passed=1)
    assert len(server.requests) == 7


def test_every_record_mode_does_what_it_does_in_vcrpy(suite: Suite, recording: tuple) -> None:
    server, (option, _, *config) = recording
    code = """
pytestmark = pytest.mark.mmlu_cassette("new", program="my_program.py")

@pytest.mark.parametrize("question", QUESTIONS)
def test_it(mmlu_run_line, question):
    assert mmlu_run_line(LINE | {"question": question})["my_choice"] == 1
"""
    for mode, questions, passed, failed, asked in (
        ("once", "A", 1, 0, 1),
        ("once", "AB", 1, 1, 1),
        ("new_episodes", "AB", 2, 0, 2),
        ("all", "AB", 2, 0, 4),
        ("none", "AB", 2, 0, 4),
    ):
        done = suite(f"QUESTIONS = {list(questions)}\n" + code, option, mode, *config)
        done.assert_outcomes(passed=passed, failed=failed)
        assert len(server.requests) == asked


def test_a_wrong_answer_is_the_same_error_live_and_replayed(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, write_config: WriteConfig
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    code = """
from mmlu_pipe.errors import SelectFailed

@pytest.mark.mmlu_cassette("new", program="my_program.py")
def test_it(mmlu_run_line):
    with pytest.raises(SelectFailed) as found:
        mmlu_run_line(LINE)
    assert found.value.text
"""
    with AoaiServer(answer=lambda _body, _count: '{"choice": "17"}') as server:
        config = write_config(server.endpoint)
        suite(code, "--mmlu-record-mode", "all", "--mmlu-other-config", config).assert_outcomes(passed=1)
    suite(code).assert_outcomes(passed=1)


def test_the_deployment_of_the_marker_is_asked_where_the_command_names_none(
    suite: Suite, recording: tuple, pytester: pytest.Pytester
) -> None:
    server, (option, mode, _, config) = recording
    shutil.copy(config, pytester.path / "mine.json")
    code = """
@pytest.mark.mmlu_cassette("new", program="my_program.py", other_config="mine.json")
def test_it(mmlu_run_line):
    assert mmlu_run_line(LINE)["my_choice"] == 1
"""
    suite(code, option, mode).assert_outcomes(passed=1)
    (pytester.path / "new" / "provenance.json").unlink()
    suite(code).assert_outcomes(passed=1)
    assert len(server.requests) == 1


def test_recording_needs_somebody_to_ask_and_one_process(suite: Suite) -> None:
    done = suite("def test_it(mmlu_model):\n    pass\n", "--mmlu-record-mode", "all")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*--mmlu-record-mode all needs --mmlu-other-config FILE*"])
    done = suite("", "-p", "xdist", "-n", "2", "--mmlu-record-mode", "all")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --mmlu-record-mode records from one process only; add -n 0"])
    assert suite("", "--mmlu-record-mode", "some").ret == pytest.ExitCode.USAGE_ERROR


# Playing all


def test_a_partly_played_cassette_fails_a_test_that_must_play_all(suite: Suite) -> None:
    done = suite(
        """
FOLDER = "cassettes/my_program"

@pytest.mark.mmlu_cassette(FOLDER, must_play_all=True)
def test_some(mmlu_run_line):
    mmlu_run_line(LINE)
    mmlu_run_line(LINE)

@pytest.mark.mmlu_cassette(FOLDER, must_play_all=True)
def test_all(mmlu_run_line, mmlu_run_file):
    mmlu_run_line(LINE)
    mmlu_run_file("questions.jsonl")

@pytest.mark.mmlu_cassette(FOLDER, must_play_all=True)
def test_another_failure():
    assert False, "mine"

@pytest.mark.mmlu_cassette(FOLDER)
def test_none():
    pass
"""
    )
    done.assert_outcomes(failed=2, passed=2)
    done.stdout.fnmatch_lines(
        [
            "test_it.py::test_some: *must_play_all: recordings left unplayed: 5; the first are",
            "  astronomy.yaml: *comet*",
            "  marketing.yaml: *",
            "*AssertionError: mine",
        ]
    )


def test_equal_requests_of_one_line_are_recordings_of_their_own(suite: Suite, recording: tuple) -> None:
    _server, options = recording
    code = """
import my_program

def ask(lm):
    assert (lm + my_program.multiple_choice("Why?", ["a", "b"]))["choice"] == "1"

@pytest.mark.mmlu_cassette("new", program="my_program.py", must_play_all=True)
def test_it(mmlu_model, mmlu_run_line):
    ask(mmlu_model)
    """
    again = "ask(mmlu_model)\n"
    another_line = "mmlu_run_line({'question': 'Why?', 'choices': ['a', 'b']})\n"
    suite(code + again, *options).assert_outcomes(passed=1)
    suite(code + again).assert_outcomes(passed=1)
    done = suite(code + another_line)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*must_play_all: recordings left unplayed: 1;*", "  default.yaml: *Why?*"])


# Beside other plugins


def test_it_works_under_xdist(suite: Suite) -> None:
    code = """
@pytest.mark.parametrize("number", [1, 2])
def test_it(mmlu_run_line, number):
    assert mmlu_run_line(LINE)["my_choice"] == 2
"""
    suite(code, "-p", "xdist", "-n", "2", "-W", "ignore").assert_outcomes(passed=2)


def test_it_works_beside_pytest_recording(suite: Suite, listener: socket.socket) -> None:
    pytest.importorskip("pytest_recording", reason="the extra `test` installs pytest-recording")
    done = suite(
        f"""
import socket

@pytest.mark.vcr
@pytest.mark.block_network
def test_both(mmlu_run_line, record_mode, vcr):
    assert mmlu_run_line(LINE)["my_choice"] == 2
    assert (record_mode, vcr.play_count) == ("once", 0)

@pytest.mark.parametrize("marked", [pytest.param(True, marks=pytest.mark.block_network), False])
def test_refused(marked):
    with socket.socket() as client:
        client.connect(("127.0.0.1", {port(listener)}))
""",
        *("-p", "recording", "--record-mode", "once", "-p", "no:cacheprovider"),
    )
    done.assert_outcomes(passed=1, failed=2)
    assert nobody_came(listener)
    assert "connect" not in vars(socket.socket) or socket.socket.connect is socket.socket.__base__.connect


# As a user has it


def test_the_example_suite_runs_as_a_user_would_run_it(tmp_path: Path) -> None:
    """Installed by an entry point, in a process of its own, with warnings as errors."""
    site = tmp_path / "site"
    info = site / "plugin_of_mmlu_pipe-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-mmlu-pipe\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[pytest11]\nmmlu_pipe = mmlu_pipe.pytest_plugin\n", encoding="utf-8")
    shutil.copytree(EXAMPLE, tmp_path / "copy")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--strict-markers", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path / "copy",
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert [path.name for path in (tmp_path / "copy").rglob("*") if path.name not in _names(EXAMPLE)] == []


def test_the_cassette_of_the_example_holds_what_its_provenance_says() -> None:
    folder = EXAMPLE / "cassettes" / "my_program"
    count = sum(len(read_shard(path).items) for path in folder.glob("*.yaml"))
    assert json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["recordings"] == count == 6


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


# The page


@pytest.mark.docs
def test_the_tests_shown_on_the_page_pass(suite: Suite, pytester: pytest.Pytester) -> None:
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python")
    for name, code in blocks:
        (pytester.path / name).write_text(code, encoding="utf-8")
    done = suite("", before="")
    done.assert_outcomes(passed=sum(code.count("def test_") for _, code in blocks))


@pytest.mark.docs
def test_every_fixture_option_and_argument_is_on_the_page() -> None:
    fixtures = {name for name in vars(pytest_plugin) if name.startswith("mmlu_") and name != "mmlu_pipe"}
    assert set(re.findall(r"^\| `(mmlu_\w+)", PAGE, re.MULTILINE)) == fixtures
    options = set(re.findall(r"`(--mmlu-[a-z-]+)", PAGE))
    source = Path(pytest_plugin.__file__).read_text(encoding="utf-8")
    assert options == set(re.findall(r'addoption\("(--[a-z-]+)"', source))
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## The marker")[2].partition("\n## ")[0], re.MULTILINE))
    assert told == {"folder", "program", "other_config", "must_play_all", *pytest_plugin._ASKING}
