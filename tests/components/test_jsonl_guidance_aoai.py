import codecs
import hashlib
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import mmlu_pipe
from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai
from mmlu_pipe.components.jsonl_score_multiplechoice import jsonl_score_multiplechoice
from mmlu_pipe.errors import (
    CassetteMiss,
    ConfigError,
    DatasetError,
    ErrorBudgetExceeded,
    MmluPipeError,
    ProgramError,
    RunFolderError,
)
from tests.servers.aoai import AoaiServer, Reply, default_answer, filtered_prompt

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "guidance_programs" / "zero_shot.py"
DATA = ("output", "errors", "calls")


class Desk:
    """Component 1 (and 2) over files in a folder."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch, self.count = folder, monkeypatch, 0
        self.program = PROGRAM

    def dataset(self, lines, name="data.jsonl"):
        path = self.folder / name
        content = lines if isinstance(lines, bytes) else b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        path.write_bytes(content)
        return path

    def ports(self, lines, server=None, **more):
        self.count += 1
        run_dir = self.folder / f"run {self.count}"
        found = {
            "guidance_program": self.program,
            "input_dataset": lines if isinstance(lines, Path) else self.dataset(lines),
            "output_dataset": run_dir / "output.jsonl",
            "error_dataset": run_dir / "errors.jsonl",
            "calls_dataset": run_dir / "calls.jsonl",
        }
        if server is not None:
            self.monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
            where = {"endpoint": server.endpoint, "deployment": "dep", "model": "gpt-4o", "api_version": "2024-10-21"}
            found |= {f"azure_openai_{name}": value for name, value in where.items()}
        return run_dir, found | more

    def run(self, lines, server=None, **more):
        """In this process."""
        run_dir, ports = self.ports(lines, server, **more)
        error = None
        try:
            jsonl_guidance_aoai(**ports)
        except MmluPipeError as failure:
            error = failure
        return self.result(run_dir, error)

    def command(self, lines, server=None, **more):
        """As a cluster runs it."""
        run_dir, ports = self.ports(lines, server, **more)
        ended = process("jsonl_guidance_aoai", jsonl_guidance_aoai.arguments(ports), self.folder)
        return self.result(run_dir, ended)

    @staticmethod
    def result(run_dir, ended):
        paths = {name: run_dir / f"{name}.jsonl" for name in DATA}
        content = {name: path.read_bytes() if path.exists() else None for name, path in paths.items()}
        lines = {
            name: [json.loads(line) for line in (text or b"").decode("utf-8-sig").split("\n") if line]
            for name, text in content.items()
        }
        return SimpleNamespace(dir=run_dir, ended=ended, bytes=content, **lines)

    def scored(self, found, *, as_process):
        ports = {
            "input_dataset": found.dir / "output.jsonl",
            "error_dataset": found.dir / "errors.jsonl",
            "calls_dataset": found.dir / "calls.jsonl",
            "score_dataset": found.dir / "score.json",
        }
        if as_process:
            process("jsonl_score_multiplechoice", jsonl_score_multiplechoice.arguments(ports), self.folder)
        else:
            jsonl_score_multiplechoice(**ports)
        return (found.dir / "score.json").read_bytes()


def process(component, arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", f"mmlu_pipe.components.{component}", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path, monkeypatch)


def question(number, **changes):
    line = {
        "dataset": "test",
        "subject": ["astronomy", "anatomy"][number % 2],
        "question": f"Quéstion {number} \u2028?",
        "choices": ["zero", "one", "two", "three"],
        "correct_answer": number % 4,
    }
    return line | changes


def asked(body):
    return body["messages"][-1]["content"]


def sometimes_bad(body, count):
    """Every seventh question is blocked, every fifth is cut; all others get an answer of their own."""
    number = int(asked(body).split()[1])
    if number % 7 == 3:
        return filtered_prompt()
    return Reply("", finish_reason="length") if number % 5 == 4 else default_answer(body, count)


# Both ways, three sources


def test_in_process_and_as_a_process_live_recorded_and_replayed_write_the_same_bytes(desk):
    lines = [question(number) for number in range(30)]
    cassette = desk.folder / "cassette"
    options = {"max_errors": "50%", "seed": 7}
    found, scores = {}, {}
    with AoaiServer(answer=sometimes_bad) as server:
        found["live here"] = desk.run(lines, server, **options, guidance_workers=1)
        found["live there"] = desk.command(lines, server, **options, guidance_workers=16)
        found["recorded here"] = desk.run(lines, server, **options, cassette=cassette, record_mode="once")
        again = desk.folder / "again"
        found["recorded there"] = desk.command(lines, server, **options, cassette=again, record_mode="once")
    desk.monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    found["replayed here"] = desk.run(lines, **options, cassette=again, guidance_workers=16)
    found["replayed there"] = desk.command(lines, **options, cassette=cassette, guidance_workers=1)
    for how, one in found.items():
        if how.endswith(" here"):
            assert one.ended is None, how
        else:
            assert one.ended.returncode == 0, one.ended.stderr
        scores[how] = desk.scored(one, as_process=how.endswith(" there"))
    for name in ("output", "errors"):
        assert len({one.bytes[name] for one in found.values()}) == 1, name
    assert len(set(scores.values())) == 1
    one = found["replayed there"]
    assert [line["question"] for line in one.output] == [
        question(n)["question"] for n in range(30) if n % 7 != 3 and n % 5 != 4
    ]
    assert {line["_error"]["kind"] for line in one.errors} == {"content_filter", "truncated"}
    score = json.loads(scores["live here"])
    assert (score["count"], score["answered"], score["failed"]) == (30, len(one.output), len(one.errors))
    shards = [{path.name: path.read_bytes() for path in folder.glob("*.yaml")} for folder in (cassette, again)]
    assert shards[0] == shards[1]


def test_the_bundled_sample_replays_with_the_bundled_recordings(desk):
    dataset = Path(str(importlib.resources.files("mmlu_pipe") / "dataset" / "sample_test.jsonl"))
    cassette = ROOT / "cassettes" / "sample-zero_shot"
    here = desk.run(dataset, cassette=cassette, max_errors="0")
    there = desk.command(dataset, cassette=cassette, max_errors="0")
    assert here.ended is None
    assert there.ended.returncode == 0, there.ended.stderr
    assert here.bytes["output"] == there.bytes["output"]
    assert len(here.output) == len(dataset.read_bytes().splitlines())
    assert here.bytes["errors"] == b""


# What is written


def test_lines_keep_their_order_and_keys_and_the_result_is_added_at_the_end(desk):
    lines = [question(number) for number in range(5)]
    lines[2] |= {"extra": {"b": [1, None], "a": 0.5}, "ключ": "значение"}
    with AoaiServer() as server:
        found = desk.run(lines, server)
    assert [list(line) for line in found.output] == [[*line, "zero_shot_choice"] for line in lines]
    assert [{key: line[key] for key in was} for was, line in zip(lines, found.output, strict=True)] == lines
    assert "ключ".encode() in found.bytes["output"]
    assert b"\r" not in found.bytes["output"]
    assert found.bytes["errors"] == b""  # written all the same


def test_an_error_line_is_the_original_line_and_one_reserved_key(desk):
    with AoaiServer(answer=lambda _body, _count: filtered_prompt("hate", "high")) as server:
        found = desk.run([question(0), question(1)], server)
    assert found.bytes["output"] == b""
    for number, line in enumerate(found.errors):
        assert list(line) == [*question(number), "_error"]
        assert line["_error"] == {
            "line_number": number + 1,
            "kind": "content_filter",
            "error_type": "ContentFiltered",
            "message": line["_error"]["message"],
            "categories": {"hate": "high"},
        }
        assert "hate" in line["_error"]["message"]


def test_an_errors_file_is_a_dataset_again(desk):
    lines = [question(number) for number in range(10)]
    with AoaiServer(answer=sometimes_bad) as server:
        first = desk.run(lines, server)
        assert len(first.errors) == 3
        server.answer = default_answer
        second = desk.run(first.dir / "errors.jsonl", server)
    assert second.ended is None
    assert [line["question"] for line in second.output] == [line["question"] for line in first.errors]
    assert all("_error" not in line for line in second.output)
    assert {call["line_number"] for call in second.calls} == {1, 2, 3}
    whole = sorted((*first.output, *second.output), key=lambda line: int(line["question"].split()[1]))
    assert [{key: line[key] for key in question(0)} for line in whole] == lines


def test_there_is_a_record_for_each_call_also_of_failed_lines(desk):
    desk.program = desk.folder / "program.py"
    desk.program.write_text(
        "from guidance import assistant, gen, select, user\n\n\n"
        "def guidance_generation(lm, input):\n"
        "    with user():\n        lm += input['question']\n"
        "    with assistant():\n        lm += gen('thought', max_tokens=50)\n"
        "    with user():\n        lm += 'So?'\n"
        "    with assistant():\n        lm += select(['0', '1', '2', '3'], name='choice')\n"
        "    return {'choice': lm['choice']}\n",
        encoding="utf-8",
    )

    def answer(body, count):
        if asked(body) == "So?" and "Quéstion 1 " in body["messages"][0]["content"]:
            return Reply(refusal="I would rather not.")
        return default_answer(body, count)

    with AoaiServer(answer=answer) as server:
        found = desk.run([question(number) for number in range(3)], server)
        assert len(server.requests) == 6
    assert [(call["line_number"], call["index"]) for call in found.calls] == [(n, i) for n in (1, 2, 3) for i in (0, 1)]
    assert [call["error"] for call in found.calls] == [None, None, None, "refused", None, None]
    assert [call["strategy"] for call in found.calls] == [None, "json_schema"] * 3
    for call in found.calls:
        assert set(call) >= {
            *("line_number", "index", "request_hash", "messages", "text", "finish_reason", "distribution", "usage"),
            *("strategy", "served_model", "latency_s", "attempts", "system_fingerprint", "error"),
        }
        assert len(call["request_hash"]) == 64
        assert call["served_model"] == "gpt-4o"
        assert call["attempts"] == 1
        assert call["latency_s"] > 0
        assert call["usage"]["prompt_tokens"] > 0
    assert found.calls[0]["messages"] == [{"role": "user", "content": question(0)["question"]}]
    assert found.calls[1]["distribution"] is not None
    assert [line["_error"]["kind"] for line in found.errors] == ["refused"]


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_read_always_and_written_on_request(desk, mark, encoding):
    content = mark + b"\r\n".join(json.dumps(question(n)).encode() for n in range(3))

    def answer(body, count):
        return filtered_prompt() if "Quéstion 1 " in asked(body) else default_answer(body, count)

    with AoaiServer(answer=answer) as server:
        found = desk.run(content, server, output_encoding=encoding)
    written = codecs.BOM_UTF8 if encoding == "utf-8-sig" else b""
    for name, count in (("output", 2), ("errors", 1)):
        text = found.bytes[name]
        assert text.startswith(written + b'{"dataset"')
        assert text.count(codecs.BOM_UTF8) == bool(written)
        assert (text.count(b"\n"), text.count(b"\r")) == (count, 0)
    assert found.bytes["calls"].startswith(b'{"line_number"')


def test_facts_say_what_was_settled_and_counted(desk):
    facts = desk.folder / "facts.json"
    with AoaiServer() as server:
        desk.run([question(0)], server, run_facts=facts)
    value = json.loads(facts.read_text(encoding="utf-8"))
    assert (value["answered"], value["failed"], value["calls"], value["attempts"]) == (1, 0, 1, 1)
    assert (value["model"], value["endpoint_kind"], value["dataset"]["lines"]) == ("gpt-4o", "loopback", 1)
    text = facts.read_text(encoding="utf-8")
    assert "127.0.0.1" not in text
    assert str(desk.folder) not in text


def hashes(found):
    return {f"{name}.jsonl": hashlib.sha256(found.bytes[name]).hexdigest() for name in DATA}


@pytest.mark.parametrize("max_errors", ["0", "5"])
def test_facts_have_the_hashes_of_the_files_also_of_a_run_that_stopped(desk, max_errors):
    facts = desk.folder / "facts.json"
    with AoaiServer(
        answer=lambda _body, count: Reply('{"choice": "1"}') if count == 0 else filtered_prompt()
    ) as server:
        lines = [question(number) for number in range(3)]
        more = {"max_errors": max_errors, "on_content_filter": "count", "guidance_workers": 1}
        found = desk.run(lines, server, run_facts=facts, **more)
    assert (found.ended is None) == (max_errors == "5")
    assert all(found.bytes.values())
    assert json.loads(facts.read_text(encoding="utf-8"))["outputs"] == hashes(found)


# Refused before any request is paid


@pytest.fixture
def untouched():
    """A server that no request may reach."""
    with AoaiServer() as server:
        yield server
    assert server.requests == []


def refused(desk, lines, server, error, **more):
    found = desk.run(lines, server, **more)
    assert type(found.ended) is error, found.ended
    assert found.ended.exit_code == 2
    assert not found.dir.exists()
    return str(found.ended)


def test_all_bad_lines_are_listed_before_any_request(desk, untouched):
    good = json.dumps(question(0)).encode()
    bad = [b"{", b"[1]", b'{"a": NaN}', b"\xff", b'{"a": 1} x', good[:-1]]
    message = refused(desk, b"\n".join([good, *bad, b"", good]), untouched, DatasetError)
    assert message.startswith(f"{desk.folder / 'data.jsonl'}: 6 bad lines")
    for number in range(2, 8):
        assert f"\n  line {number}: " in message


@pytest.mark.parametrize("content", [b"", b"\n\n", codecs.BOM_UTF8])
def test_an_empty_dataset_is_refused(desk, untouched, content):
    assert "is empty; a dataset has at least one line" in refused(desk, content, untouched, DatasetError)


def test_a_missing_dataset_a_folder_and_another_encoding_are_refused(desk, untouched):
    assert "cannot be read" in refused(desk, desk.folder / "nothing.jsonl", untouched, DatasetError)
    assert "cannot be read" in refused(desk, desk.folder, untouched, DatasetError)
    assert "save it as UTF-8" in refused(desk, json.dumps(question(0)).encode("utf-16"), untouched, DatasetError)


@pytest.mark.parametrize("missing", ["endpoint", "deployment", "model", "api_version"])
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_an_endpoint_given_in_part_is_refused(desk, untouched, missing, empty):
    message = refused(desk, [question(0)], untouched, ConfigError, **{f"azure_openai_{missing}": empty})
    assert "belong together; give all four, or none to replay a cassette" in message


def test_neither_endpoint_nor_cassette_is_refused(desk, untouched):
    assert "nothing can answer" in refused(desk, [question(0)], None, ConfigError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance_workers": 0}, "--guidance_workers must be at least 1, not 0"),
        ({"guidance_workers": -3}, "--guidance_workers must be at least 1"),
        ({"limit": 0}, "--limit must be at least 1, not 0"),
        ({"limit": -1}, "--limit must be at least 1"),
        ({"max_errors": "many"}, "--max-errors 'many'"),
        ({"max_errors": "101%"}, "--max-errors '101%'"),
        ({"auth": "magic"}, "--auth 'magic': use one of key, entra, auto"),
        ({"output_encoding": "latin-1"}, "--output_encoding 'latin-1': use one of utf-8, utf-8-sig"),
        ({"record_mode": "some", "cassette": Path("c")}, "--record_mode 'some': use one of none, once"),
        ({"record_mode": "once"}, "--record_mode once needs the endpoint (whom to ask) and --cassette"),
        ({"select_strategy": "guess"}, "use one of auto"),
        ({"require": "nonsense=1"}, "--require"),
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(desk, untouched, options, said):
    assert said in refused(desk, [question(0)], untouched, ConfigError, **options)


def test_recording_needs_somebody_to_ask(desk, untouched):
    message = refused(desk, [question(0)], None, ConfigError, record_mode="all", cassette=desk.folder / "cassette")
    assert "needs the endpoint" in message
    assert not (desk.folder / "cassette").exists()


@pytest.mark.parametrize("pair", [("output_dataset", "error_dataset"), ("error_dataset", "calls_dataset")])
def test_two_outputs_in_one_file_are_refused(desk, untouched, pair):
    same = desk.folder / "run" / "same.jsonl"
    message = refused(desk, [question(0)], untouched, ConfigError, **dict.fromkeys(pair, same))
    assert f"--{pair[1]} would overwrite --{pair[0]}" in message


def test_an_output_that_is_an_input_is_refused_and_the_input_stays(desk, untouched):
    data = desk.dataset([question(0)])
    before = data.read_bytes()
    message = refused(desk, data, untouched, ConfigError, error_dataset=desk.folder / "." / "data.jsonl")
    assert "--error_dataset would overwrite --input_dataset" in message
    assert data.read_bytes() == before


def test_outputs_that_cannot_be_made_are_refused(desk, untouched):
    (desk.folder / "file").write_text("", encoding="utf-8")
    message = refused(
        desk, [question(0)], untouched, RunFolderError, output_dataset=desk.folder / "file" / "output.jsonl"
    )
    assert "cannot be written" in message


# The program


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", ":1: cannot be imported (SyntaxError"),
        ("import a_helper\n", "a program stands alone: it may import installed packages only"),
        ("import tests\n", "a program stands alone"),
        ("x = 1\n", "has no function guidance_generation"),
    ],
)
@pytest.mark.parametrize("how", ["here", "there"])
def test_a_program_that_does_not_load_is_refused(desk, untouched, text, said, how):
    desk.program = desk.folder / "program.py"
    desk.program.write_text(text, encoding="utf-8")
    (desk.folder / "a_helper.py").write_text("", encoding="utf-8")
    desk.monkeypatch.chdir(desk.folder if "a_helper" in text else ROOT)
    desk.monkeypatch.setenv("PYTHONPATH", str(desk.folder))
    desk.monkeypatch.setattr(sys, "path", ["", str(desk.folder), *sys.path])
    if how == "here":
        assert said in refused(desk, [question(0)], untouched, ProgramError)
    else:
        desk.folder = desk.folder if "a_helper" in text else ROOT
        run_dir, ports = desk.ports(desk.program.parent / "data.jsonl", untouched)
        (desk.program.parent / "data.jsonl").write_text(json.dumps(question(0)), encoding="utf-8")
        ports |= {name: desk.program.parent / name for name in ("output_dataset", "error_dataset", "calls_dataset")}
        ended = process("jsonl_guidance_aoai", jsonl_guidance_aoai.arguments(ports), desk.folder)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not run_dir.exists()


def test_a_program_without_a_suffix_runs(desk):
    desk.program = desk.folder / "INPUT_guidance_program"
    desk.program.write_bytes(PROGRAM.read_bytes())
    with AoaiServer() as server:
        assert len(desk.run([question(0)], server).output) == 1
        there = desk.command([question(0)], server)
        assert there.ended.returncode == 0, there.ended.stderr


HIDING = PROGRAM.read_text(encoding="utf-8").replace(
    '    lm += zero_shot(input["question"], input["choices"])\n',
    '    try:\n        lm += zero_shot(input["question"], input["choices"])\n'
    '    except Exception:\n        return {"zero_shot_choice": 0}\n',
)


def test_a_program_cannot_hide_that_a_recording_is_missing(desk):
    with AoaiServer() as server:
        desk.run([question(0)], server, cassette=desk.folder / "cassette", record_mode="once")
    desk.program = desk.folder / "program.py"
    desk.program.write_text(HIDING, encoding="utf-8")
    found = desk.run([question(1)], cassette=desk.folder / "cassette")
    assert type(found.ended) is ProgramError
    assert "on line 1, hides that a call failed for good (recording); catch errors by name" in str(found.ended)
    assert found.output == []


def test_a_program_may_live_with_errors_of_single_answers(desk):
    desk.program = desk.folder / "program.py"
    desk.program.write_text(HIDING, encoding="utf-8")
    with AoaiServer(answer=lambda _body, _count: filtered_prompt()) as server:
        found = desk.run([question(0)], server)
    assert found.ended is None
    assert [line["zero_shot_choice"] for line in found.output] == [0]
    assert [call["error"] for call in found.calls] == ["content_filter"]


# Limits and ends


@pytest.mark.parametrize("limit", [1, 3, 10, 99])
def test_a_limit_takes_the_first_lines_only(desk, limit):
    with AoaiServer() as server:
        found = desk.run([question(number) for number in range(10)], server, limit=limit)
        assert len(server.requests) == min(limit, 10)
    assert [line["question"] for line in found.output] == [question(n)["question"] for n in range(min(limit, 10))]


def test_a_percentage_is_of_the_lines_that_run(desk):
    lines = [question(number) for number in range(100)]
    with AoaiServer(answer=lambda _body, _count: filtered_prompt()) as server:
        found = desk.run(lines, server, limit=10, max_errors="50%", guidance_workers=1, on_content_filter="count")
    assert isinstance(found.ended, ErrorBudgetExceeded)
    assert found.ended.failed == 6
    assert len(found.errors) == 10


@pytest.mark.parametrize("how", ["here", "there"])
def test_a_run_over_its_budget_ends_with_1_and_every_line_in_one_place(desk, how):
    lines = [question(number) for number in range(40)]
    with AoaiServer(answer=sometimes_bad) as server:
        found = (desk.run if how == "here" else desk.command)(lines, server, max_errors="2")
    assert (found.ended.exit_code if how == "here" else found.ended.returncode) == 1
    assert "more than --max-errors 2 allows" in str(found.ended if how == "here" else found.ended.stderr)
    both = [line["question"] for line in (*found.output, *found.errors)]
    assert sorted(both) == sorted(line["question"] for line in lines)
    assert "not_run" in {line["_error"]["kind"] for line in found.errors}


def test_a_missing_recording_ends_with_1(desk):
    with AoaiServer() as server:
        desk.run([question(0)], server, cassette=desk.folder / "cassette", record_mode="once")
    there = desk.command([question(0), question(1)], cassette=desk.folder / "cassette", guidance_workers=1)
    assert there.ended.returncode == 1
    assert "no recording for a request of the program; the nearest recording differs in messages" in there.ended.stderr
    assert [line["_error"]["error_type"] for line in there.errors] == [CassetteMiss.__name__]
    assert len(there.output) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_a_full_disk_ends_with_1_and_one_message(desk):
    lines = [question(number) for number in range(200)]
    with AoaiServer() as server:
        there = desk.command(lines, server, output_dataset=Path("/dev/full"), guidance_workers=1)
    assert there.ended.returncode == 1
    assert "error: /dev/full: cannot be written (No space left on device)" in there.ended.stderr
    assert "Traceback" not in there.ended.stderr
    (ledger,) = re.findall(r"every finished line is in (\S+);", there.ended.stderr)
    with AoaiServer() as other:
        where = {"azure_openai_endpoint": server.endpoint}
        again = desk.run(lines, other, ledger=Path(ledger), **where)
        assert other.requests == []
    assert (again.ended, len(again.output)) == (None, 200)
    shutil.rmtree(Path(ledger).parent)


def test_the_command_says_who_answers_on_stderr_alone(desk):
    with AoaiServer() as server:
        there = desk.command([question(0)], server)
    assert there.ended.stdout == ""
    assert "authorised by API key (AZURE_OPENAI_API_KEY)" in there.ended.stderr
    assert "test-key" not in there.ended.stderr


def test_only_the_lines_that_are_named_are_evaluated(write_dataset, write_config, monkeypatch, tmp_path):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    monkeypatch.chdir(tmp_path)
    with AoaiServer() as server:
        config = write_config(server.endpoint)
        run = mmlu_pipe.run(write_dataset(9), other_config=config, lines="2,5-6", output_dir="out")
    numbers = [json.loads(line)["line_number"] for line in run.outputs["calls.jsonl"].read_text("utf-8").splitlines()]
    assert numbers == [2, 5, 6]
    assert run.score.count == 3


@pytest.mark.parametrize("lines", ["0", "3-1", "x", "1,,2", "-4", "", "10"])
def test_lines_that_are_none_are_refused(lines, write_dataset, write_config, monkeypatch, tmp_path):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    monkeypatch.chdir(tmp_path)
    with AoaiServer() as server, pytest.raises(mmlu_pipe.MmluPipeError, match="line") as caught:
        mmlu_pipe.run(write_dataset(9), other_config=write_config(server.endpoint), lines=lines)
    assert caught.value.exit_code == 2
    assert server.requests == []
