"""What a program is handed beside the line: examples of another dataset, and options; and what it may refuse."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmlu_pipe
from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai
from mmlu_pipe.errors import ConfigError, DatasetError, MmluPipeError, ProgramError
from mmlu_pipe.gate.record import check_verification
from mmlu_pipe.gate.verify import verify
from mmlu_pipe.programs import ExampleSet, Program, load_program, option_texts, parse_options
from mmlu_pipe.programs.options import settled
from tests.servers.aoai import AoaiServer, Reply

Command = Callable[..., subprocess.CompletedProcess[str]]

FEW_SHOT = """
from guidance import assistant, select, user

def guidance_generation(lm, input, examples, *, k: int = 1, intro: str = ""):
    for example in examples[:k]:
        with user():
            lm += example["question"]
        with assistant():
            lm += str(example["correct_answer"])
    with user():
        lm += intro + input["question"]
    with assistant():
        lm += select(["0", "1", "2", "3"], name="choice")
    return {"few_shot_choice": int(lm["choice"])}

def guidance_check(input, examples, *, k, intro):
    if len(examples) < k:
        raise ValueError(f"k is {k}, and there are {len(examples)} examples")
"""

Write = Callable[[str, list[Any]], Path]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


def line(question: str, **more: Any) -> dict[str, Any]:
    return {"subject": "s", "question": question, "choices": ["a", "b", "c", "d"], "correct_answer": 1} | more


def write(name: str, lines: list[Any]) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return path


@pytest.fixture
def program() -> Path:
    Path("few.py").write_text(FEW_SHOT, encoding="utf-8")
    return Path("few.py")


@pytest.fixture
def dataset() -> Path:
    return write("questions.jsonl", [line(f"Pick {number}") for number in range(6)])


@pytest.fixture
def examples() -> Path:
    return write("shown.jsonl", [line(f"Shown {number}", correct_answer=number) for number in range(3)])


@pytest.fixture
def recorded(
    program: Path, dataset: Path, examples: Path, write_config: Callable[..., Path]
) -> tuple[dict[str, Any], list[Any], Path]:
    """The options of a run that was recorded, the bodies that were asked, and the run's folder."""
    bodies: list[Any] = []

    def answer(body: Any, _count: int) -> Reply:
        bodies.append(body)
        return Reply("1")

    named = {"dataset": dataset, "guidance_program": program, "examples": examples, "program_option": {"k": 2}}
    named |= {"select_strategy": "text"}
    with AoaiServer({"dep": "gpt-4o"}, answer=answer) as server:
        config = write_config(server.endpoint)
        run = mmlu_pipe.run(**named, other_config=config, cassette="tape", record_mode="once", output_dir="recorded")
    return named | {"cassette": "tape"}, bodies, run.run_dir


# Examples


def test_examples_are_shown_in_the_order_of_their_file(recorded: Any) -> None:
    _, bodies, _ = recorded
    assert len(bodies) == 6
    for body in bodies:
        shown = [message["content"] for message in body["messages"][:-1] if message["role"] == "user"]
        assert shown == ["Shown 0", "Shown 1"]


def test_a_line_never_sees_itself_whatever_its_other_keys() -> None:
    own, other = line("q"), line("r")
    found = ExampleSet(write("e.jsonl", [own | {"note": 1}, other, own]))
    assert [example["question"] for example in found.of(own)] == ["r"]
    assert [example["question"] for example in found.of(line("q", choices=["x", "y"]))] == ["q", "r", "q"]


def test_a_line_never_sees_what_reads_the_same_in_a_prompt() -> None:
    found = ExampleSet(write("e.jsonl", [line("q ", choices=[1, 2]), line("r")]))
    assert [example["question"] for example in found.of(line("q", choices=["1", "2 "]))] == ["r"]


def test_a_dataset_may_be_its_own_examples(program: Path, dataset: Path, write_config: Callable[..., Path]) -> None:
    def answer(body: Any, _count: int) -> Reply:
        texts = [message["content"] for message in body["messages"] if message["role"] == "user"]
        return Reply("1") if len(set(texts)) == len(texts) == 6 else Reply(status=400)

    with AoaiServer({"dep": "gpt-4o"}, answer=answer) as server:
        config = write_config(server.endpoint)
        options = {"examples": dataset, "program_option": "k=5", "select_strategy": "text"}
        run = mmlu_pipe.run(dataset, program, other_config=config, **options)
    assert run.score is not None
    assert run.score.answered == 6


def test_all_other_lines_share_one_object_that_nobody_can_change() -> None:
    found = ExampleSet(write("e.jsonl", [line("q", more={"list": [1]})]))
    one, two = found.of(line("r")), found.of(line("t"))
    assert one is two
    assert {one: "kept"}[two] == "kept"
    with pytest.raises(TypeError):
        one[0]["question"] = "?"
    assert one[0]["choices"] == ("a", "b", "c", "d")
    assert one[0]["more"]["list"] == (1,)


def test_a_program_of_two_arguments_runs_with_examples_named(
    dataset: Path, examples: Path, write_config: Callable[..., Path]
) -> None:
    with AoaiServer({"dep": "gpt-4o"}, answer=lambda *_: Reply("1")) as server:
        run = mmlu_pipe.run(dataset, examples=examples, other_config=write_config(server.endpoint))
    manifest = json.loads((run.run_dir / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["options"]["examples"] is None
    assert "examples" not in manifest["inputs"]


def test_examples_with_a_default_are_the_programs_to_have_or_not(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text(
        "def guidance_generation(lm, input, examples=None):\n    return {'n': examples}\n", encoding="utf-8"
    )
    assert load_program(path).function(None, {}) == {"n": None}
    shown = load_program(path, examples=write("e.jsonl", [line("q")])).function(None, line("r"))
    assert [example["question"] for example in shown["n"]] == ["q"]


def test_an_unrelated_third_argument_with_a_default_gets_no_examples(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text("def guidance_generation(lm, input, heat=0.5):\n    return {'n': heat}\n", encoding="utf-8")
    assert load_program(path, examples=write("e.jsonl", [line("q")])).function(None, {}) == {"n": 0.5}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([{"query": "?"}], "misses the key"),
        ([line("q", correct_answer=9)], "correct_answer is 9"),
        ([], "is empty"),
        (["no object"], "not an object"),
    ],
)
def test_examples_that_are_no_dataset_are_refused(program: Path, dataset: Path, lines: list[Any], told: str) -> None:
    write("bad.jsonl", lines)
    with pytest.raises(DatasetError, match=told) as caught:
        mmlu_pipe.plan(dataset=dataset, guidance_program=program, examples="bad.jsonl", cassette="tape")
    assert caught.value.exit_code == 2
    assert "bad.jsonl" in str(caught.value)


def test_a_program_that_shows_examples_names_the_option_where_there_are_none(program: Path, dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"few.py shows examples: name a dataset of them with --examples"):
        mmlu_pipe.plan(dataset=dataset, guidance_program=program, cassette="tape")


def test_the_sample_has_its_own_examples(program: Path) -> None:
    found = mmlu_pipe.plan(guidance_program=program, cassette="tape").description.commands["run_aoai_guidance"]
    assert "sample_dev.jsonl" in found


# Options


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text())
def test_options_come_back_from_their_texts(whole: int, real: float, truth: bool, text: str) -> None:
    def function(lm: Any, input: Any, *, a: int = 1, b: float = 1.0, c: bool = False, d: str = "") -> None: ...

    given_ = {"a": whole, "b": real, "c": truth, "d": text}
    assert settled(function, given_, program="p") == given_
    assert settled(function, parse_options(option_texts(given_)), program="p") == given_


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["kk=1"], "few.py takes no such option; did you mean k?"),
        (["zzz=1"], "few.py takes no such option; it takes k, intro"),
        (["k=two"], "k: must be a whole number for few.py, not 'two'"),
        (["k=1.0"], "k: must be a whole number"),
        (["k"], "write it as KEY=VALUE"),
        (["k=1", "k=2"], "is given twice"),
    ],
)
def test_an_option_that_the_program_does_not_take_is_refused(
    program: Path, dataset: Path, examples: Path, options: list[str], told: str, mmlu_pipe_command: Command
) -> None:
    words = [word for option in options for word in ("--program-option", option)]
    done = mmlu_pipe_command(
        *("run", "--dataset", dataset, "--guidance-program", program, "--examples", examples, "--cassette", "t", *words)
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("runs").exists()


def test_an_option_of_another_type_is_no_text() -> None:
    with pytest.raises(ConfigError, match=r"hint: must be .*, not None"):
        option_texts({"hint": None})  # type: ignore[dict-item]


def test_a_number_that_is_not_finite_is_no_option() -> None:
    def function(lm: Any, input: Any, *, heat: float = 1.0) -> None: ...

    for text in ("nan", "inf", "1e999"):
        with pytest.raises(ConfigError, match="a finite number"):
            settled(function, {"heat": text}, program="p")


def test_a_text_that_cannot_be_written_down_is_no_option() -> None:
    def function(lm: Any, input: Any, *, hint: str = "") -> None: ...

    with pytest.raises(ConfigError, match="a text that UTF-8 can write"):
        settled(function, {"hint": "a\ud800"}, program="p")


# What a program refuses itself


def test_a_line_that_the_program_refuses_costs_nothing(
    program: Path, dataset: Path, examples: Path, write_config: Callable[..., Path]
) -> None:
    with AoaiServer({"dep": "gpt-4o"}, answer=lambda *_: Reply("1")) as server:
        options: dict[str, Any] = {"examples": examples, "program_option": "k=9"}
        with pytest.raises(ProgramError) as caught:
            mmlu_pipe.run(dataset, program, **options, other_config=write_config(server.endpoint))
        assert not server.requests
    told = "questions.jsonl:1: few.py:18 refuses the line: k is 9, and there are 3 examples (and 5 more lines)"
    assert str(caught.value) == told
    assert caught.value.exit_code == 2


def test_only_lines_that_are_evaluated_can_be_refused(tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "p.py").write_text(
        "def guidance_generation(lm, input):\n    return {'n': 1}\n"
        "def guidance_check(input):\n    assert input['question'] != 'Pick 5', 'five'\n",
        encoding="utf-8",
    )
    mmlu_pipe.plan(dataset=dataset, guidance_program="p.py", cassette="tape", limit=5)
    with pytest.raises(ProgramError, match=r"questions.jsonl:6: p.py:4 refuses the line: AssertionError: five$"):
        mmlu_pipe.plan(dataset=dataset, guidance_program="p.py", cassette="tape")


def test_a_check_of_another_signature_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text(FEW_SHOT.replace("(input, examples, *, k, intro)", "(input)"), encoding="utf-8")
    with pytest.raises(ProgramError, match="guidance_check must take what guidance_generation takes, without lm"):
        load_program(path, examples=write("e.jsonl", [line("q")]))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("async def guidance_check(input):\n    pass\n", "guidance_check is async"),
        ("def guidance_check(input):\n    raise SystemExit('no')\n", "refuses the line: SystemExit: no"),
        ("def guidance_generation(lm, input, *, examples=()):\n    return {}\n", "must be its third argument"),
    ],
)
def test_what_would_pass_unseen_is_refused(tmp_path: Path, dataset: Path, code: str, told: str) -> None:
    (tmp_path / "p.py").write_text(
        f"def guidance_generation(lm, input):\n    return {{'n': 1}}\n{code}", encoding="utf-8"
    )
    with pytest.raises(ProgramError, match=told):
        mmlu_pipe.plan(dataset=dataset, guidance_program="p.py", cassette="tape")


def test_a_program_without_a_check_has_its_dataset_left_unread(program: Path) -> None:
    assert Program(program, lambda _lm, _line: {}).check is None


# What follows from the one declaration


def test_the_manifest_tells_examples_and_every_option(recorded: Any) -> None:
    _, _, folder = recorded
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["options"]["examples"] == "shown.jsonl"
    assert manifest["options"]["program_option"] == ["k=2", "intro="]
    assert manifest["inputs"]["examples"]["name"] == "shown.jsonl"
    assert manifest["run"]["program_options"] == {"k": 2, "intro": ""}


def test_a_replay_asks_in_the_same_words_with_any_number_of_workers(recorded: Any) -> None:
    options, _, folder = recorded
    for workers in (1, 5):
        again = mmlu_pipe.run(**options, workers=workers, output_dir=f"again-{workers}")
        for name in ("output.jsonl", "score.json"):
            assert (again.run_dir / name).read_bytes() == (folder / name).read_bytes()


def test_the_component_alone_takes_the_same(recorded: Any) -> None:
    _, _, folder = recorded
    inputs: dict[str, Any] = {
        name: Path(path)
        for name, path in (
            ("guidance_program", "few.py"),
            ("input_dataset", "questions.jsonl"),
            ("examples_dataset", "shown.jsonl"),
            ("cassette", "tape"),
        )
    }
    outputs = {f"{name}_dataset": Path(f"{name}.jsonl") for name in ("output", "error", "calls")}
    arguments = jsonl_guidance_aoai.arguments(
        inputs | outputs | {"program_options": '{"k": 2}', "select_strategy": "text"}
    )
    assert jsonl_guidance_aoai.main(arguments) == 0
    assert Path("output.jsonl").read_bytes() == (folder / "output.jsonl").read_bytes()


@pytest.mark.parametrize("text", ["[1]", "{", '{"k": "two"}', '{"k": null}'])
def test_the_component_refuses_options_that_are_none(
    recorded: Any, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = {"guidance_program": "few.py", "input_dataset": "questions.jsonl", "examples_dataset": "shown.jsonl"}
    outputs = {f"{name}_dataset": f"{name}.jsonl" for name in ("output", "error", "calls")}
    words = [f"--{name}={value}" for name, value in (inputs | outputs | {"program_options": text}).items()]
    assert jsonl_guidance_aoai.main(words) == 2
    assert "option" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["examples", "options"])
def test_a_run_with_other_examples_or_options_does_not_go_on_in_the_folder(recorded: Any, change: str) -> None:
    options, _, _ = recorded
    options = copy.copy(options) | {"output_dir": "recorded", "record_mode": "none"}
    if change == "examples":
        with Path("shown.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line("Shown 3")) + "\n")
    else:
        options["program_option"] = {"k": 1}
    with pytest.raises(MmluPipeError, match="examples" if change == "examples" else "program_option"):
        mmlu_pipe.run(**options)


def test_the_gate_wants_what_was_verified(recorded: Any) -> None:
    options, _, _ = recorded
    names = {"program": Path("few.py"), "dataset": Path("questions.jsonl"), "examples": Path("shown.jsonl")}
    asked = {"program_options": {"k": 2, "intro": ""}, "select_strategy": "text"}
    found = verify(options.pop("dataset"), options.pop("guidance_program"), **options)
    assert found.passed, found.problems
    assert check_verification(Path("tape"), **names, asked_with=asked) == []
    (told,) = check_verification(Path("tape"), **names, asked_with={"program_options": {"k": 1, "intro": ""}})
    assert "verified with program_options" in told
    assert "--examples shown.jsonl --program-option k=1" in told
    (told,) = check_verification(Path("tape"), **names, asked_with=asked | {"seed": 3})
    assert told.endswith("--select-strategy text --seed 3")
    without = check_verification(Path("tape"), **names | {"examples": None}, asked_with=asked)
    assert "the examples of the verification are not those of the run" in without[0]
    shutil.copy("questions.jsonl", "shown.jsonl")
    assert "the examples shown.jsonl changed" in check_verification(Path("tape"), **names, asked_with=asked)[0]


def test_a_verification_names_the_command_that_records_the_rest(recorded: Any) -> None:
    options, _, _ = recorded
    options["program_option"] = ["k=3"]
    found = verify(options.pop("dataset"), options.pop("guidance_program"), **options)
    assert not found.passed
    assert found.command is not None
    assert "--examples shown.jsonl --program-option k=3" in found.command


def test_runs_with_other_examples_differ_in_their_program(recorded: Any) -> None:
    options, _, folder = recorded
    again = mmlu_pipe.run(**options | {"limit": 6}, output_dir="again")
    manifest = json.loads((again.run_dir / "manifest.json").read_text(encoding="utf-8"))
    manifest["inputs"]["examples"]["sha256"] = "0" * 64
    (again.run_dir / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"program: few.py .*k=2, .*examples shown.jsonl"):
        mmlu_pipe.compare([folder, again.run_dir])


def test_a_plan_says_where_its_estimate_is_of_other_options(recorded: Any) -> None:
    options, _, _ = recorded
    assert not any("estimate" in note for note in mmlu_pipe.plan(**options).description.notes)
    (note,) = mmlu_pipe.plan(**options | {"program_option": {"k": 3}}).description.notes
    assert note == "the estimate is of recordings with k=2, intro=; the run would be with k=3, intro="


def test_the_plan_of_a_cloud_run_registers_the_examples(
    recorded: Any, write_config: Callable[..., Path], tmp_path: Path
) -> None:
    options, _, _ = recorded
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"subscription_id": "00000000-0000-4000-8000-00000000abcd", "resource_group": "g", "workspace_name": "w"}
        ),
        encoding="utf-8",
    )
    other = write_config("https://my-resource.openai.azure.com", general_compute="serverless")
    found = mmlu_pipe.plan(**options, backend="azureml", other_config=other)
    assert {asset.name for asset in found.description.assets} >= {"questions", "shown"}
    job = next(text for name, text in found.description.documents.items() if name.startswith("job"))
    assert "examples_dataset" in job
    assert '{"k": 2, "intro": ""}' in job
    (tmp_path / "more").mkdir()
    options["examples"] = shutil.copy("shown.jsonl", "more/questions.jsonl")
    both = mmlu_pipe.plan(**options, backend="azureml", other_config=other).description
    assert [asset.name for asset in both.assets].count("questions") == 2
    assert sum(name.startswith("data-questions") for name in both.documents) == 2
    with pytest.raises(ConfigError, match="have one name"):
        mmlu_pipe.plan(**options, backend="azureml", other_config=other, version_scheme="epoch")
