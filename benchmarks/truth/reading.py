"""What the working folder holds, as choices by line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.truth.ask import RUNS, Study
from benchmarks.truth.figures import Choice, Choices, best
from benchmarks.truth.lettered import ANSWER
from benchmarks.truth.relay import exchanges
from mmlu_pipe.endpoint.select import match_option
from mmlu_pipe.scoring.accuracy import Outcome
from mmlu_pipe.scoring.runs import CompletedRun


@dataclass(frozen=True)
class Findings:
    """Everything that the tables are made of.

    Attributes:
        study: what was asked.
        facts: versions and hashes, as the runs wrote them down.
        native: guidance's own choices.
        in_json: what its engine would choose after the opening of a JSON answer.
        runs: name of a run on the endpoint → its choices.
        inspect: inspect-ai's.
        same_tokens: lines whose prompt is the same tokens for guidance's engine and for the server.
        same_counts: name → lines whose prompt the server counted as so many tokens as guidance's engine was given.
        same_messages: lines for which the server was sent the same messages by inspect-ai and by us, byte for byte.
        fields: name → request fields beside the messages, as JSON; every request of the run had them.
    """

    study: Study
    facts: dict[str, str]
    native: Choices
    in_json: Choices
    runs: dict[str, Choices]
    inspect: Choices
    same_tokens: int
    same_counts: dict[str, int]
    same_messages: int
    fields: dict[str, str]


def read(study: Study) -> Findings:
    """Read a finished study."""
    choices = {each["line_number"]: each for each in _objects(study.folder / "native.choices.jsonl")}
    served = {each["line_number"]: each["tokens"] for each in _objects(study.folder / "tokens.jsonl")}
    numbers = [name for name in RUNS if not name.startswith("lettered")]
    sizes = {name: _prompt_sizes(study.folder / name) for name in numbers}
    sent = {name: bodies(study.folder, name) for name in ("lettered_text", "inspect")}
    theirs = {each["line_number"]: each for each in _objects(study.folder / "inspect" / "answers.jsonl")}
    ours = {each["line_number"]: each["messages"] for each in _first_calls(study.folder / "lettered_text")}
    return Findings(
        study=study,
        facts=_facts(study),
        native=_native(study.folder / "native", choices),
        in_json=_in_json(study.folder / "native", choices),
        runs={name: _run(study.folder / name, name) for name in RUNS if study.finished(name)},
        inspect={line: _theirs(each) for line, each in theirs.items()},
        same_tokens=sum(choices[line]["tokens"] == tokens for line, tokens in served.items()),
        same_counts={
            name: sum(len(choices[line]["tokens"]) == size for line, size in found.items())
            for name, found in sizes.items()
        },
        same_messages=sum(
            _text(ours[line]) == _text(each["messages"])
            and all(_text(ours[line]) in each_sent for each_sent in sent.values())
            for line, each in theirs.items()
        ),
        fields={name: ", ".join(sorted(set(fields.values()))) for name, fields in sent.items()},
    )


def menu(name: str, count: int) -> list[str]:
    """The options of a line with so many choices, in a run of that name."""
    if name.startswith("lettered"):
        return [ANSWER.format(letter=chr(ord("A") + index)) for index in range(count)]
    return [str(index) for index in range(count)]


def _native(folder: Path, choices: dict[int, dict[str, Any]]) -> Choices:
    run = CompletedRun.read(folder)
    found = {}
    for scored in run.lines():
        seen = choices[scored.number]
        assert seen["temperature"] == 0
        (most, _), *_ = seen["likely"]
        options = menu("native", len(scored.line["choices"]))
        assert [text for text, _ in seen["allowed"]] == options
        found[scored.number] = Choice(
            scored.line[run.response_key],
            scored.outcome is Outcome.CORRECT,
            most in options,
            (most,),
            _probabilities(seen["allowed"]),
        )
    return found


def _in_json(folder: Path, choices: dict[int, dict[str, Any]]) -> Choices:
    run = CompletedRun.read(folder)
    found = {}
    for scored in run.lines():
        options = _probabilities(choices[scored.number]["in_json"])
        found[scored.number] = Choice(best(options), best(options) == scored.line[run.correct_key], options=options)
    return found


def _run(folder: Path, name: str) -> Choices:
    run = CompletedRun.read(folder)
    found = {}
    for scored, calls in run.lines_with_calls():
        options = menu(name, len(scored.line["choices"]))
        told = calls[0]["distribution"]  # None: no option was among the alternatives that were told
        found[scored.number] = Choice(
            None if scored.outcome is Outcome.FAILED else scored.line[run.response_key],
            scored.outcome is Outcome.CORRECT,
            _on_menu(RUNS[name][1], calls[0], options),
            tuple(call["text"] or "" for call in calls),
            tuple((told or {}).get(option, 0.0) for option in options),
            cut=calls[0]["finish_reason"] == "length",
        )
    return found


def _on_menu(strategy: str, call: dict[str, Any], options: list[str]) -> bool:
    if strategy == "json_schema":
        return json.loads(call["text"])["choice"] in options
    return match_option(call["text"] or "", options) is not None and (
        strategy == "logprob" or call["finish_reason"] == "stop"
    )


def _theirs(line: dict[str, Any]) -> Choice:
    return Choice(line["answer"], line["correct"], line["answer"] is not None, (line["reply"],))


def _probabilities(told: list[tuple[str, float]]) -> tuple[float, ...]:
    return tuple(probability for _, probability in told)


def _prompt_sizes(folder: Path) -> dict[int, int]:
    return {call["line_number"]: call["usage"]["prompt_tokens"] for call in _first_calls(folder)}


def _first_calls(folder: Path) -> Iterator[dict[str, Any]]:
    return (call for call in _objects(folder / "calls.jsonl") if call["index"] == 0)


def bodies(folder: Path, name: str) -> dict[str, str]:
    """Messages of each request, as the relay saw them, → its other fields."""
    found = {}
    for each in exchanges(folder / f"{name}.requests.jsonl"):
        body = json.loads(each["body"])
        messages = _text(body.pop("messages"))
        found[messages] = json.dumps(body, sort_keys=True)
    return found


def _text(messages: Any) -> str:
    return json.dumps(messages, ensure_ascii=False, sort_keys=True)


def _facts(study: Study) -> dict[str, str]:
    manifests = {name: _json(study.folder / name / "manifest.json") for name in ("native", "json_schema")}
    (call, *_) = _first_calls(study.folder / "json_schema")
    versions = _json(study.folder / "native.facts.json") | _json(study.folder / "facts.json")
    return {
        "dataset": manifests["native"]["inputs"]["dataset"]["sha256"],
        "weights": f"{call['served_model']} (`{call['system_fingerprint']}`)",
        "date": manifests["json_schema"]["finished"][:10],
        "machine": f"{versions.pop('machine')}",
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
    }


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
