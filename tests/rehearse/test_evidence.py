"""What a rehearsal of the sample proves; and that each row fails where it does not hold."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.proving.evidence import proofs
from mmlu_pipe.proving.seen import Seen, kinds_of
from mmlu_pipe.rehearsal.exchange import Recorded
from tests.rehearse.conftest import Told


class Edited:
    """A twin whose requests are told in another way."""

    def __init__(self, twin: Any, requests: list[Recorded]) -> None:
        self._twin, self.requests = twin, requests

    def __getattr__(self, name: str) -> Any:
        return getattr(self._twin, name)


@pytest.fixture
def seen(told: Told) -> Seen:
    return dataclasses.replace(told.seen)


@pytest.fixture
def restored(told: Told) -> Iterator[None]:
    """Files of the rehearsal that a test changes are as before afterwards."""
    names = ("output.jsonl", "errors.jsonl", "score.json")
    before = {told.seen.job / name: (told.seen.job / name).read_bytes() for name in names}
    yield
    for path, content in before.items():
        path.write_bytes(content)


def failed(seen: Seen) -> dict[str, str]:
    return {proof.name: proof.told for proof in proofs(seen) if proof.holds is False}


def edited(seen: Seen, method: str, route: str, **changes: Any) -> Seen:
    """As if the first such request had been another one."""
    assert seen.twin is not None
    requests = list(seen.twin.requests)
    at = next(at for at, kept in enumerate(requests) if (kept.method, kept.route) == (method, route))
    requests[at] = dataclasses.replace(requests[at], **changes)
    return dataclasses.replace(seen, twin=Edited(seen.twin, requests))


def with_more(seen: Seen, *more: tuple[str, str, str, int]) -> Seen:
    """As if there had been further requests."""
    assert seen.twin is not None
    paths = {kept.route: kept.path for kept in seen.twin.requests}
    added = [Recorded(method, host, paths.get(route, ""), route, None, 0, code) for method, host, route, code in more]
    return dataclasses.replace(seen, twin=Edited(seen.twin, [*seen.twin.requests, *added]))


def body_of(seen: Seen, route: str) -> Any:
    """A copy of what was first put there."""
    return dataclasses.replace(seen).sent(route)[0].body


def test_everything_holds_and_comes_back_byte_equal(told: Told) -> None:
    assert [stage.error for stage in told.stages] == [None] * 6
    found = proofs(told.seen)
    assert [(proof.name, proof.told) for proof in found if not proof.holds] == []
    for name in ("output.jsonl", "errors.jsonl", "score.json"):
        assert (told.seen.local / name).read_bytes() == (told.seen.job / name).read_bytes()
    assert len((told.seen.job / "output.jsonl").read_bytes().splitlines()) == 117
    assert len((told.seen.job / "errors.jsonl").read_bytes().splitlines()) == 4


def test_the_second_submission_sends_nothing_but_the_job(told: Told) -> None:
    assert told.seen.twin is not None
    kinds = Counter(kinds_of(list(told.seen.twin.requests)[told.seen.first :]))
    assert {kind: count for kind, count in kinds.items() if kind.startswith("PUT ")} == {"PUT jobs": 1}


def test_a_difference_of_outputs_is_told_with_its_place(seen: Seen, restored: None) -> None:
    path = seen.job / "output.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"zero_shot_choice": ', b'"zero_shot_choice": 1', 1))
    (seen.job / "score.json").unlink()
    told = failed(seen)
    assert told.keys() == {"output.jsonl", "score.json"}
    assert told["output.jsonl"].startswith("output.jsonl line 1: zero_shot_choice: ")
    assert told["score.json"] == "there is no score.json in job/"


def test_a_file_of_the_package_that_is_another_there_is_named(seen: Seen) -> None:
    assert seen.storage is not None
    (code,) = {str(kept.body["properties"]["codeUri"]) for kept in seen.sent("codes/*/versions/*")}
    container, _, prefix = code.removeprefix("https://").partition("/")[2].partition("/")
    name = f"{prefix.rstrip('/')}/mmlu_pipe/added.py".lstrip("/")
    seen.storage.put(container, name, b"")
    try:
        assert failed(dataclasses.replace(seen, read={})) == {
            "package": "1 files are not as they are here, the first: mmlu_pipe/added.py",
        }
    finally:
        seen.storage._request("DELETE", f"{container}/{name}", {})


def test_a_program_or_dataset_that_was_changed_since_is_told(seen: Seen, tmp_path: Path) -> None:
    other = tmp_path / "zero_shot.py"
    other.write_text("", encoding="utf-8")
    changed = dataclasses.replace(seen, subject=dataclasses.replace(seen.subject, program=other, dataset=other))
    told = failed(changed)
    assert told.keys() == {"program", "dataset", "mlflow"}
    assert "not with the bytes of zero_shot.py" in told["program"]


def test_a_python_with_mmlu_pipe_proves_nothing(seen: Seen) -> None:
    told = failed(dataclasses.replace(seen, interpreter=Path(sys.executable)))
    assert told.keys() == {"environment"}


def test_a_step_that_did_not_end_well_runs_on_no_pins(seen: Seen) -> None:
    (step,) = (step for name, step in seen.steps().items() if name == "score_results")
    before, step.status = step.status, "Failed"
    try:
        assert "score_results is Failed" in failed(seen)["environment"]
    finally:
        step.status = before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python --limit='${{inputs.limit}}'", "an expression is left in its command"),
        ("python -m mmlu_pipe.components.jsonl_guidance_aoai", "is not"),
        (None, "did not start"),
    ],
    ids=["left", "lost", "none"],
)
def test_a_command_without_its_values_is_told(seen: Seen, command: str | None, words: str) -> None:
    step = seen.steps()["run_aoai_guidance"]
    before, step.command = step.command, command
    try:
        assert words in failed(seen)["commands"]
    finally:
        step.command = before


@pytest.mark.parametrize("identity", ["user", "11111111-2222-3333-4444-555555555555"])
def test_another_identity_than_the_one_asked_for_is_told(seen: Seen, identity: str) -> None:
    config = dataclasses.replace(seen.subject.config, identity=identity)
    told = failed(dataclasses.replace(seen, subject=dataclasses.replace(seen.subject, config=config)))
    assert told == {"identity": "Managed in the job; asked as app"}


def test_a_request_without_a_recording_is_told(seen: Seen) -> None:
    assert seen.asked is not None
    more = seen.asked + Counter(("asked", "missed"))
    assert failed(dataclasses.replace(seen, asked=more)) == {
        "answers": "122 requests, 121 answered by their recordings, 1 not recorded"
    }
    assert "0 requests" in failed(dataclasses.replace(seen, asked=Counter()))["answers"]


@pytest.mark.parametrize(
    ("method", "host", "route", "words"),
    [
        ("PUT", "blobs", "blob/*/*", "1 uploads, 0 new versions, 1 new job"),
        ("PUT", "management.azure.com", "data/*/versions/*", "0 uploads, 1 new versions, 1 new job"),
        ("PUT", "management.azure.com", "jobs/*", "0 uploads, 0 new versions, 2 new job"),
    ],
)
def test_whatever_a_second_submission_sends_is_told(seen: Seen, method: str, host: str, route: str, words: str) -> None:
    assert failed(with_more(seen, (method, host, route, 201))) == {"again": words}


def test_where_versions_are_times_a_second_submission_may_make_new_ones(seen: Seen) -> None:
    config = dataclasses.replace(seen.subject.config, version_scheme="epoch")
    epoch = dataclasses.replace(seen, subject=dataclasses.replace(seen.subject, config=config))
    assert failed(with_more(epoch, ("PUT", "management.azure.com", "data/*/versions/*", 201))) == {}


def test_a_key_in_a_request_or_a_log_is_told(seen: Seen) -> None:
    body = body_of(seen, "components/*/versions/*") | {"environment": {"KEY": seen.canary}}
    assert failed(edited(seen, "PUT", "components/*/versions/*", body=body)).keys() == {"secrets"}
    step = seen.steps()["run_aoai_guidance"]
    before, step.command = step.command, f"{step.command} --key={seen.canary}"
    try:
        assert failed(seen) == {"secrets": "1 requests, commands or logs hold a secret"}
    finally:
        step.command = before


def test_a_host_that_no_workspace_has_is_named(seen: Seen) -> None:
    told = failed(with_more(seen, ("CONNECT", "telemetry.example", "", 502)))
    assert told == {"network": "asked for hosts that no workspace has: telemetry.example"}


def test_a_figure_or_a_parameter_that_mlflow_has_otherwise_is_told(seen: Seen) -> None:
    pipeline = seen.jobs()[0]
    rows = pipeline.metrics["accuracy"]
    rows.append(rows[-1] | {"value": 0.5})
    try:
        assert failed(seen) == {"mlflow": f"1 figures of {pipeline.display_name} are not those of score.json: accuracy"}
    finally:
        rows.pop()
    kept = pipeline.parameters.pop("stream")
    try:
        assert "are not those of its steps" in failed(seen)["mlflow"]
    finally:
        pipeline.parameters["stream"] = kept


def test_what_the_story_did_not_reach_is_not_told_as_proven(seen: Seen) -> None:
    before_all = Seen(seen.subject, seen.folder, seen.canary)
    assert {proof.holds for proof in proofs(before_all)} == {None}
    begun = dataclasses.replace(seen, first=None, asked=None, verification=None)
    unknown = {proof.name for proof in proofs(begun) if proof.holds is None}
    assert unknown == {"gate", "answers", "output.jsonl", "errors.jsonl", "score.json", "mlflow", "again"}
