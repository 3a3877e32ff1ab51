"""The gate: what it replays, what it renders, what it refuses, and the record it leaves."""

from __future__ import annotations

import json
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmlu_pipe
from mmlu_pipe.bundled import SAMPLE_DATASETS, bundled_cassette, bundled_program
from mmlu_pipe.errors import ConfigError, DatasetError, MmluPipeError, ProgramError, RecordingError
from mmlu_pipe.gate.choose import LEAST_LINES, choose_lines, line_list, parse_gate_lines
from mmlu_pipe.gate.record import FILE_NAME, check_verification, read_verification
from mmlu_pipe.gate.result import Verification
from mmlu_pipe.gate.stub import instance
from mmlu_pipe.gate.verify import verify
from mmlu_pipe.plugins import hookimpl, manager
from mmlu_pipe.recording.nearest import difference_kind
from tests.servers.aoai import AoaiServer, Reply, filtered_prompt

SUBJECTS = ("anatomy", "astronomy", "virology")

ZERO_SHOT = """
from guidance import assistant, select, user

def guidance_generation(lm, input):
    with user():
        lm += "{intro}" + input["question"]
    with assistant():
        lm += select(["0", "1", "2", "3"], name="choice")
    return {{{result}}}
"""

TWO_STEPS = """
from guidance import assistant, gen, select, user

def guidance_generation(lm, input):
    with user():
        lm += input["question"]
    with assistant():
        lm += gen("thought", max_tokens=20)
    with user():
        lm += "So, which?"
    with assistant():
        lm += select(["0", "1", "2", "3"], name="choice")
    return {"zero_shot_choice": int(lm["choice"]), "said": lm["thought"].split("because ")[1]}
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Forty questions of three subjects, in an order that mixes them."""
    return _write(tmp_path / "questions.jsonl", [_line(number) for number in range(40)])


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    def write(intro: str = "", result: str = '"zero_shot_choice": int(lm["choice"])', text: str | None = None) -> Path:
        path = tmp_path / f"program{len(list(tmp_path.glob('program*.py')))}.py"
        path.write_text(text or ZERO_SHOT.format(intro=intro, result=result), encoding="utf-8")
        return path

    return write


@pytest.fixture
def recorded(tmp_path: Path, write_config: Callable[..., Path]) -> Callable[..., Path]:
    """Record real exchanges over loopback HTTP."""

    def record(dataset: Path, program: Path, folder: str = "cassette", answer: Any = None, **options: Any) -> Path:
        server = AoaiServer() if answer is None else AoaiServer(answer=answer)
        with server:
            mmlu_pipe.run(
                dataset,
                program,
                other_config=write_config(server.endpoint),
                cassette=folder,
                record_mode="new_episodes",
                response_key="zero_shot_choice",
                **options,
            )
        return tmp_path / folder

    return record


def _line(number: int, **more: Any) -> dict[str, Any]:
    return {
        "subject": SUBJECTS[number % 3],
        "question": f"Question {number}: pick {number % 4}",
        "choices": ["zero", "one", "two", "three"],
        "correct_answer": number % 4,
    } | more


def _write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _sample_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled_cassette("sample", "zero_shot"), tmp_path / "sample"))


# What passes


def test_the_bundled_sample_passes(tmp_path: Path) -> None:
    folder = _sample_copy(tmp_path)
    found = verify("sample", "zero_shot", cassette=folder)
    assert found.passed
    assert (found.lines, len(found.covered), found.rendered) == (114, 114, 0)
    assert (found.calls_asked, found.calls_played, found.calls_missing, found.unused) == (114, 114, 0, 0)
    assert (found.problems, found.warnings, found.command) == ((), (), None)
    assert found.model_recorded == "Qwen2.5-Coder-1.5B-Instruct"
    assert check_verification(folder, _bundled(), SAMPLE_DATASETS["sample"]) == []


def test_a_part_is_replayed_and_every_other_line_is_rendered(tmp_path: Path) -> None:
    whole = verify("sample", "zero_shot", cassette=_sample_copy(tmp_path), gate_lines="all")
    part = verify("sample", "zero_shot", cassette=tmp_path / "sample", gate_lines=1)
    assert part.passed
    assert (len(part.covered), part.rendered, part.unused) == (57, 57, 57)
    assert part.prompts.calls == whole.prompts.calls == 114
    assert part.prompts.characters == whole.prompts.characters  # the stub renders what the recordings were asked
    assert whole.prompts.tokens is not None
    assert part.prompts.tokens == pytest.approx(whole.prompts.tokens, rel=0.05)


def test_recordings_of_the_gates_lines_alone_are_enough(
    questions: Path, program: Any, recorded: Any, tmp_path: Path
) -> None:
    chosen = verify(questions, program(), cassette="nothing", other_config=_config(tmp_path)).missing_lines
    lines = questions.read_text(encoding="utf-8").splitlines()
    part = tmp_path / "part.jsonl"
    part.write_text("".join(lines[number - 1] + "\n" for number in chosen), encoding="utf-8")
    folder = recorded(part, program())
    found = verify(questions, program(), cassette=folder)
    assert found.passed
    assert (found.covered, found.rendered, found.recordings, found.unused) == (chosen, 20, 20, 0)


def test_no_socket_is_opened(questions: Path, program: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = recorded(questions, program())
    tried = []

    def refuse(*arguments: Any, **_keywords: Any) -> None:
        tried.append(arguments)
        raise AssertionError("a socket was used")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(AssertionError, match="a socket was used"):  # the canary: the guard is on
        socket.create_connection(("127.0.0.1", 9))
    tried.clear()
    assert verify(questions, program(), cassette=folder).passed
    assert not verify(questions, program("New. "), cassette=folder).passed
    assert tried == []


def test_what_was_recorded_with_a_seed_is_asked_with_it(questions: Path, program: Any, recorded: Any) -> None:
    folder = recorded(questions, program(), seed=7)
    assert verify(questions, program(), cassette=folder, seed=7).passed
    found = verify(questions, program(), cassette=folder)
    assert found.misses_by_kind == {"seed": 20}
    assert found.command is not None
    assert "--seed" not in found.command
    asked = {"select_strategy": "auto", "seed": 7, "reasoning_effort": None}
    assert any("seed" in told for told in check_verification(folder, program(), questions, asked_with=asked))


@pytest.mark.parametrize("strategy", ["json_schema", "logprob", "text"])
def test_every_select_strategy_is_rendered_by_its_first_option(
    strategy: str, questions: Path, program: Any, recorded: Any
) -> None:
    check = '"zero_shot_choice": int(lm["choice"]), "sure": lm.log_prob("choice") > -100'
    folder = recorded(questions, program(result=check), select_strategy=strategy)
    found = verify(questions, program(result=check), cassette=folder, select_strategy=strategy)
    assert found.passed, found
    assert (len(found.covered), found.rendered) == (20, 20)


# What does not


def test_a_changed_program_names_the_lines_and_the_one_command(questions: Path, program: Any, recorded: Any) -> None:
    folder = recorded(questions, program())
    changed = program("Think. ")
    found = verify(questions, changed, cassette=folder)
    assert not found.passed
    assert found.missing_lines == found.covered
    assert (found.calls_asked, found.calls_played, found.calls_missing) == (20, 0, 20)
    assert found.misses_by_kind == {"messages": 20}
    assert [miss.line_number for miss in found.first_misses] == list(found.covered[:3])
    assert "Think." in found.first_misses[0].difference
    assert found.command == (
        f"mmlu-pipe run --dataset {questions} --guidance-program {changed} --other-config FILE --cassette {folder} "
        f"--record-mode new_episodes --lines {line_list(found.missing_lines)}"
    )


def test_only_the_changed_lines_are_named(questions: Path, program: Any, recorded: Any) -> None:
    folder = recorded(questions, program())
    lines = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    for number in (4, 5, 6, 21):
        lines[number - 1]["question"] += " (mended)"
    found = verify(_write(questions, lines), program(), cassette=folder, gate_lines="all")
    assert found.missing_lines == (4, 5, 6, 21)
    assert found.command is not None
    assert found.command.endswith("--lines 4-6,21")
    assert (found.calls_asked, found.calls_played, found.unused) == (40, 36, 4)


def test_a_program_that_hides_the_miss_is_found_out(questions: Path, program: Any, recorded: Any) -> None:
    folder = recorded(questions, program())
    text = ZERO_SHOT.format(intro="Other. ", result='"zero_shot_choice": int(lm["choice"])')
    hiding = text.replace("def guidance", "def asked").replace("{{", "{").replace("}}", "}") + (
        "\ndef guidance_generation(lm, input):\n"
        "    try:\n        return asked_generation(lm, input)\n"
        '    except Exception:\n        return {"zero_shot_choice": 0}\n'
    )
    found = verify(questions, program(text=hiding), cassette=folder)
    assert not found.passed
    assert found.missing_lines == found.covered
    assert "hidden by the program" in found.first_misses[0].difference


def test_a_key_that_a_line_has_already_is_found_wherever_it_is(questions: Path, program: Any, recorded: Any) -> None:
    result = '"zero_shot_choice": int(lm["choice"])'
    folder = recorded(questions, program(result=result))
    asked = verify(questions, program(result=result), cassette=folder)
    number = next(number for number in range(1, 41) if number not in asked.covered)
    lines = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    lines[number - 1]["zero_shot_choice"] = 3
    found = verify(_write(questions, lines), program(result=result), cassette=folder, gate_lines=2)
    assert not found.passed
    problem = found.problems[0]
    assert (problem.kind, problem.first_line) == ("would stop the run", number)
    assert "'zero_shot_choice', which the line already has" in problem.told


def test_an_exception_that_no_answer_can_prevent_fails_and_names_its_line(
    questions: Path, program: Any, recorded: Any
) -> None:
    folder = recorded(questions, program())
    result = '"zero_shot_choice": int(lm["choice"]), "hint": input["hint"]'
    found = verify(questions, program(result=result), cassette=folder)
    assert not found.passed
    (problem,) = found.problems
    assert (problem.kind, problem.lines) == ("the program raises an exception", 40)
    assert "KeyError: 'hint'" in problem.told
    assert ".py:9)" in problem.told


@pytest.mark.parametrize(
    "result",
    ['"question": 1', '"_error": 1', '"x": float("nan")', '"x": {1, 2}', "3: 4", '"x": object()'],
)
def test_the_gate_refuses_the_outputs_that_a_run_refuses(
    result: str, questions: Path, program: Any, recorded: Any
) -> None:
    folder = recorded(questions, program())
    found = verify(questions, program(result=result), cassette=folder)
    assert [problem.kind for problem in found.problems] == ["would stop the run"]
    assert found.problems[0].lines == 40
    with pytest.raises(ProgramError):
        mmlu_pipe.run(questions, program(result=result), cassette=folder)


def test_an_unsupported_construct_is_told_once(questions: Path, program: Any, recorded: Any) -> None:
    folder = recorded(questions, program())
    text = ZERO_SHOT.format(intro="", result='"x": lm["x"]').replace(
        'select(["0", "1", "2", "3"], name="choice")', 'guidance.gen("x", regex="[0-3]")'
    )
    found = verify(questions, program(text="import guidance\n" + text), cassette=folder)
    (problem,) = found.problems
    assert "regular expression" in problem.told
    assert problem.lines == 40


# Free text


def test_an_exception_at_a_made_up_text_is_no_proof(questions: Path, program: Any, recorded: Any) -> None:
    said = "It is so, because I say so"
    folder = recorded(questions, program(text=TWO_STEPS), answer=lambda body, _: _thinks(body, said))
    found = verify(questions, program(text=TWO_STEPS), cassette=folder)
    assert found.passed
    assert (found.calls_asked, found.prompts.calls, found.warnings) == (40, 80, ())  # a recorded text stands in

    broken = program(text=TWO_STEPS.replace("because ", "since "))
    found = verify(questions, broken, cassette=folder)
    assert found.passed
    assert found.problems == ()
    (warning,) = found.warnings
    assert warning.startswith("on 40 lines the program raises an exception at a free text")


def test_blocked_prompts_are_told_and_do_not_stop_the_gate(questions: Path, program: Any, recorded: Any) -> None:
    def answer(body: dict[str, Any], _count: int) -> str | Reply:
        question = body["messages"][-1]["content"]
        return filtered_prompt() if question.endswith("pick 3") else _chooses(body)

    folder = recorded(questions, program(), answer=answer, max_errors=40)
    found = verify(questions, program(), cassette=folder, gate_lines="all")
    assert found.passed
    assert "10 replayed lines get no answer; the first, line 4: the content filter blocked" in found.warnings[0]


def test_where_no_line_has_an_answer_nothing_is_shown(questions: Path, program: Any, recorded: Any) -> None:
    folder = recorded(questions, program(), answer=lambda *_: filtered_prompt(), max_errors=40)
    found = verify(questions, program(), cassette=folder)
    assert not found.passed
    assert found.problems[0].kind == "no replayed line has an answer"


def test_the_stub_claims_nothing(questions: Path, program: Any, recorded: Any, tmp_path: Path) -> None:
    folder = recorded(questions, program())
    seen = []

    class Watcher:
        @hookimpl
        def line_finished(self, answer: Any) -> None:
            seen.append(answer)

    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    watcher = Watcher()
    manager().register(watcher)
    try:
        found = verify(questions, program(), cassette=folder)
    finally:
        manager().unregister(watcher)
    assert seen == []
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.name for path in new} == {FILE_NAME, *(path.name for path in tmp_path.glob("program*.py"))} - {
        path.name for path in before
    }
    assert "zero_shot_choice" not in json.dumps(found.to_json())
    assert sum(read_verification(folder)["calls"].values()) == 40  # asked and played: the rendered calls are no such


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "integer"}}}, {"a": "x", "b": 0}),
        ({"type": "integer", "minimum": 2}, 2),
        ({"$ref": "#/$defs/s", "$defs": {"s": {"type": "string"}}}, "text"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [False, False]),
        ({"type": "array", "items": {"type": "string"}}, []),
        ({"type": ["number", "null"]}, 0),
        ({"const": {"k": 1}}, {"k": 1}),
    ],
)
def test_the_stub_keeps_to_a_schema(schema: Any, value: Any) -> None:
    assert instance(schema) == value


def test_a_schema_without_end_is_cut() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert json.dumps(instance(node)).count("next") < 30


# The lines


LINES = st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 10**6)), max_size=120)


@given(LINES, st.integers(1, 5), st.randoms())
def test_the_chosen_lines_are_stratified_and_the_same_in_any_order(drawn: Any, wanted: int, random: Any) -> None:
    lines = [(number, subject, str(digest)) for number, (subject, digest) in enumerate(drawn, start=1)]
    chosen = choose_lines(lines, wanted)
    shuffled = list(lines)
    random.shuffle(shuffled)
    assert choose_lines(shuffled, wanted) == chosen
    have = Counter(subject for _, subject, _ in lines)
    took = Counter(subject for number, subject, _ in lines if number in chosen)
    assert len(chosen) >= min(LEAST_LINES, len(lines))
    assert len(chosen) <= max(LEAST_LINES, sum(min(wanted, count) for count in have.values()))
    for subject, count in have.items():
        assert took[subject] >= min(wanted, count)
        if took[subject] < count:  # it has more to give: no other subject gave two more
            assert max(took.values()) <= max(wanted, took[subject] + 1)
    assert choose_lines(lines, None) == {number for number, _, _ in lines}


@given(st.sets(st.integers(1, 60)))
def test_the_list_of_lines_names_each_once(numbers: set[int]) -> None:
    found: list[int] = []
    for part in filter(None, line_list(numbers).split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", "9" * 4000, "½", True])
def test_a_bad_number_of_lines_is_refused(text: Any) -> None:
    with pytest.raises(ConfigError, match="--gate-lines must be all, or a number"):
        parse_gate_lines(text)


def test_the_kind_of_a_difference_is_its_fields() -> None:
    told = "messages[1].content (recorded a (b), asked c; d); temperature (recorded 0, asked 1)"
    assert difference_kind(told) == "messages, temperature"
    assert difference_kind("messages (recorded 1, asked 2)") == "messages"
    assert difference_kind(None) == "nothing like it"
    assert difference_kind("that it was recorded fewer times within a line").startswith("that it was recorded fewer")


# The record


def test_the_record_names_no_place_of_this_machine(questions: Path, program: Any, recorded: Any) -> None:
    folder = recorded(questions, program())
    found = verify(questions, program(), cassette=folder, other_config=_config(questions.parent))
    assert found.record == folder / FILE_NAME
    text = found.record.read_text(encoding="utf-8")
    assert str(questions.parent) not in text
    assert "127.0.0.1" not in text
    record = json.loads(text)
    assert record["lines"] == {"in_dataset": 40, "gate_lines": "2", "covered": 20, "rendered": 20, "missing": 0}
    assert record["calls"] == {"asked": 20, "played": 20, "missing": 0}
    assert record["recordings"] == {"in_cassette": 40, "unused": 20}
    assert set(record["versions"]) == {"mmlu-pipe", "guidance", "openai"}


def test_every_change_is_an_objection(questions: Path, program: Any, recorded: Any, tmp_path: Path) -> None:
    path = program()
    folder = recorded(questions, path)

    def objections() -> list[str]:
        return check_verification(folder, path, questions)

    assert "holds no verification" in objections()[0]
    assert objections()[0].endswith(
        f"mmlu-pipe verify --dataset {questions} --guidance-program {path} --cassette {folder}"
    )
    verify(questions, path, cassette=folder)
    assert objections() == []
    assert check_verification(folder, path, questions, asked_with={"select_strategy": "auto"}) == []

    for changed, what in ((questions, "dataset"), (path, "program"), (next(folder.glob("*.yaml")), "recordings")):
        content = changed.read_bytes()
        changed.write_bytes(content + b"\n")
        assert len(objections()) == 1
        assert f"the {what} {folder.name if what == 'recordings' else changed.name} changed" in objections()[0]
        changed.write_bytes(content)
        assert objections() == []

    record = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    for change, told in (
        ({"versions": record["versions"] | {"openai": "1.0"}}, "verified with openai 1.0, but"),
        ({"passed": False}, "did not pass"),
        ({"format": 2}, "no verification record of format 1"),
        ({"hashes": None}, "no verification record of format 1"),
    ):
        (folder / FILE_NAME).write_text(json.dumps(record | change), encoding="utf-8")
        assert told in objections()[0]
    (folder / FILE_NAME).write_text("{", encoding="utf-8")
    assert "is no verification record" in objections()[0]
    assert check_verification(folder, tmp_path / "gone.py", questions) != []


def test_a_verification_that_fails_takes_the_place_of_one_that_passed(
    questions: Path, program: Any, recorded: Any
) -> None:
    path = program()
    folder = recorded(questions, path)
    assert verify(questions, path, cassette=folder).passed
    assert not verify(questions, program("New. "), cassette=folder).passed
    objections = check_verification(folder, path, questions)
    assert any("did not pass" in told for told in objections)
    assert any("the program" in told for told in objections)


def test_the_result_is_json_and_frozen(questions: Path, program: Any, recorded: Any) -> None:
    found = verify(questions, program("x"), cassette=recorded(questions, program()))
    value = json.loads(json.dumps(found.to_json()))
    assert value["covered"] == list(found.covered)
    assert value["first_misses"][0]["line_number"] == found.covered[0]
    assert set(value) == set(Verification.__dataclass_fields__)
    with pytest.raises(AttributeError):
        found.passed = True  # type: ignore[misc]


# Whose answers


def test_another_model_is_a_warning_and_is_never_contacted(
    questions: Path, program: Any, recorded: Any, tmp_path: Path
) -> None:
    folder = recorded(questions, program())
    found = verify(questions, program(), cassette=folder, other_config=_config(tmp_path, aoai_model="gpt-4o-mini"))
    assert found.passed
    assert (found.model_recorded, found.model_target) == ("gpt-4o", "gpt-4o-mini")
    assert "the answers are those of gpt-4o, but gpt-4o-mini will be asked" in found.warnings[0]
    assert verify(questions, program(), cassette=folder, other_config=_config(tmp_path)).warnings == ()


def test_an_api_version_that_takes_other_fields_is_a_warning(
    questions: Path, program: Any, recorded: Any, tmp_path: Path
) -> None:
    folder = recorded(questions, program())
    old = _config(tmp_path, aoai_api_version="2024-02-01")
    (warning,) = verify(questions, program(), cassette=folder, other_config=old).warnings
    assert "recorded with API version 2024-10-21; 2024-02-01 takes other fields" in warning
    assert "structured_outputs" in warning


def test_a_folder_that_is_not_there_yet_is_told_what_to_record(questions: Path, program: Any, tmp_path: Path) -> None:
    found = verify(questions, program(), cassette="new", other_config=_config(tmp_path), gate_lines="all")
    assert not found.passed
    assert (found.model_recorded, found.recordings, found.record) == (None, 0, None)
    assert found.command is not None
    assert "--lines" not in found.command  # all of them
    assert not (tmp_path / "new").exists()
    with pytest.raises(RecordingError, match="no such cassette folder"):
        verify(questions, program(), cassette="new")
    with pytest.raises(RecordingError, match="is no folder of recordings"):
        verify(questions, program(), cassette=questions, other_config=_config(tmp_path))


def test_bad_input_is_refused_and_nothing_is_written(questions: Path, program: Any, tmp_path: Path) -> None:
    folder = _sample_copy(tmp_path)
    bad = _write(tmp_path / "bad.jsonl", [_line(1), {"question": "no choices"}])
    cases: list[tuple[type[MmluPipeError], dict[str, Any]]] = [
        (DatasetError, {"dataset": bad}),
        (DatasetError, {"dataset": "nothing"}),
        (ProgramError, {"guidance_program": "nothing"}),
        (ConfigError, {"other_config": tmp_path / "none.json"}),
        (ConfigError, {"select_strategy": "guess"}),
    ]
    for error, change in cases:
        with pytest.raises(error) as caught:
            verify(**{"dataset": "sample", "guidance_program": "zero_shot", "cassette": folder} | change)
        assert caught.value.exit_code == 2
    (folder / "anatomy.yaml").write_text("interactions: [1", encoding="utf-8")
    with pytest.raises(RecordingError, match="anatomy"):
        verify("sample", "zero_shot", cassette=folder)
    assert not (folder / FILE_NAME).exists()


def test_a_model_that_a_plugin_makes_cannot_be_verified(questions: Path, program: Any, recorded: Any) -> None:
    folder = recorded(questions, program())

    class Maker:
        @hookimpl
        def make_model(self) -> Any:
            import guidance

            return guidance.models.Mock()

    maker = Maker()
    manager().register(maker)
    try:
        with pytest.raises(ConfigError, match="an installed plugin answers instead"):
            verify(questions, program(), cassette=folder)
    finally:
        manager().unregister(maker)


def _bundled() -> Path:
    path = bundled_program("zero_shot")
    assert path is not None
    return path


def _config(folder: Path, **changes: str) -> Path:
    value = {
        "aoai_endpoint": "https://never-asked.openai.azure.com",
        "aoai_deployment": "dep",
        "aoai_model": "gpt-4o",
        "aoai_api_version": "2024-10-21",
    }
    path = folder / "target.json"
    path.write_text(json.dumps(value | changes), encoding="utf-8")
    return path


def _chooses(body: dict[str, Any]) -> str:
    return json.dumps({"choice": body["messages"][-1]["content"][-1]})


def _thinks(body: dict[str, Any], said: str) -> str:
    return json.dumps({"choice": "1"}) if body.get("response_format") else said
