"""What a rehearsal proves: every proof is computed from requests, blobs, steps and files that were seen."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.environment import normalised
from mmlu_pipe.backends.azureml.snapshot import write_snapshot
from mmlu_pipe.config import IDENTITIES
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.proving.compare import first_difference
from mmlu_pipe.proving.result import Proof
from mmlu_pipe.proving.seen import ASSETS, NotSeen, Seen, kind_of, was_put
from mmlu_pipe.records import Score
from mmlu_pipe.reporting.mlflow import metrics

__all__ = ["proofs"]

_ASKS, _SCORES = "run_aoai_guidance", "score_results"

_REFERENCE = re.compile(r"(?:azureml:|.*/data/)(?P<name>[^:/]+)(?::|/versions/)(?P<version>[^:/]+)")
_UNANSWERED = {"missed": "not recorded", "refused": "refused"}
_LIST_PACKAGES = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
)


def proofs(seen: Seen) -> list[Proof]:
    """Everything that a rehearsal proves, as far as the story went."""
    return [Proof(name, *_judged(judge, seen)) for name, judge in _proofs(seen)]


def _judged(judge: Callable[[Seen], tuple[bool, str]], seen: Seen) -> tuple[bool | None, str]:
    try:
        return judge(seen)
    except NotSeen:
        return None, "not reached"


def _proofs(seen: Seen) -> Iterator[tuple[str, Callable[[Seen], tuple[bool, str]]]]:
    if seen.subject.config.gate:
        yield "gate", _gate
    yield "package", _package
    yield "program", lambda seen: _input(seen, "guidance_program", seen.subject.program)
    yield "dataset", lambda seen: _input(seen, "input_dataset", seen.subject.dataset)
    yield "environment", _environment
    yield "commands", _commands
    yield "identity", _identity
    yield "answers", _answers
    yield "output.jsonl", lambda seen: _equal(seen, "output.jsonl")
    yield "errors.jsonl", lambda seen: _equal(seen, "errors.jsonl")
    yield "score.json", lambda seen: _equal(seen, "score.json")
    yield "mlflow", _mlflow
    yield "again", _again
    yield "secrets", _secrets
    yield "network", _network


# The proofs, in the order of the story


def _gate(seen: Seen) -> tuple[bool, str]:
    found = seen.verification
    if found is None:
        raise NotSeen
    return bool(found["passed"]), f"{len(found['covered'])} lines replayed, {found['rendered']} rendered"


def _package(seen: Seen) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory() as temporary:
        write_snapshot(Path(temporary))
        files = (path for path in Path(temporary).rglob("*") if path.is_file())
        expected = {path.relative_to(temporary).as_posix(): path.read_bytes() for path in files}
    for code in {str(kept.body["properties"]["codeUri"]) for kept in seen.sent("codes/*/versions/*")}:
        found = seen.blobs(code)
        strange = sorted(name for name in found | expected if found.get(name) != expected.get(name))
        if strange:
            return False, f"{len(strange)} files are not as they are here, the first: {strange[0]}"
    return True, f"{len(expected)} files, byte-equal to the ones here"


def _input(seen: Seen, port: str, expected: Path) -> tuple[bool, str]:
    bound = seen.job_body()["jobs"][_ASKS]["inputs"].get(port) or {}
    reference = _REFERENCE.fullmatch(str(bound.get("uri")))
    if reference is None:
        return False, f"{port} of the step is no data asset: {bound.get('uri')}"
    path = f"/data/{reference['name']}/versions/{reference['version']}"
    assets = [kept for kept in seen.sent("data/*/versions/*") if kept.path.endswith(path)]
    content = seen.blobs(str(assets[-1].body["properties"]["dataUri"])) if assets else {}
    equal = list(content.values()) == [expected.read_bytes()]
    version = f"{reference['name']}:{reference['version'][:8]}"
    return equal, f"{version}, {'byte-equal' if equal else f'but not with the bytes of {expected.name}'}"


def _environment(seen: Seen) -> tuple[bool, str]:
    import yaml

    conda = seen.sent("environments/*/versions/*")[0].body["properties"].get("condaFile")
    wanted: list[str] = next(
        each["pip"] for each in yaml.safe_load(conda)["dependencies"] if isinstance(each, dict) and "pip" in each
    )
    listed = subprocess.run([str(seen.interpreter), "-c", _LIST_PACKAGES], capture_output=True, check=True)  # noqa: S603
    there = {normalised(name): version for name, version in json.loads(listed.stdout).items()}
    pins = [pin.partition("==")[::2] for pin in wanted if "==" in pin]
    strange = [f"{name} {version}" for name, version in pins if there.get(normalised(name)) != version]
    if strange:
        return False, f"the steps' Python lacks {len(strange)} of the pins, the first: {strange[0]}"
    if "mmlu-pipe" in there:
        return False, "the steps' Python has mmlu_pipe installed, so it proves nothing of the code sent"
    states = {name: step.status for name, step in seen.steps().items()}
    if states != dict.fromkeys((_ASKS, _SCORES), "Completed"):
        return False, f"{len(pins)} pins, but {', '.join(f'{name} is {state}' for name, state in states.items())}"
    return True, f"{len(pins)} pins; both components ran on exactly these"


def _commands(seen: Seen) -> tuple[bool, str]:
    job, values = seen.job_body(), 0
    for name, step in seen.steps().items():
        if step.command is None:
            return False, f"{name} did not start: {_message(step.error)}"
        if "${{" in step.command or "$[[" in step.command:
            return False, f"{name}: an expression is left in its command"
        for port, bound in (job["jobs"][name].get("inputs") or {}).items():
            literal = bound.get("value") if bound.get("job_input_type") == "literal" else None
            if literal is not None and "${{" not in str(literal):
                values += 1
                if not re.search(rf"--{port}='?{re.escape(str(literal))}'?(\s|$)", step.command):
                    return False, f"{name}: {port} is not {literal!r} in its command"
    return True, f"{values} literal values in their places, no expression left"


def _identity(seen: Seen) -> tuple[bool, str]:
    identity = seen.subject.config.identity
    body = seen.job_body()["jobs"][_ASKS].get("identity") or {}
    kind = str(body.get("identity_type") or body.get("identityType"))
    client_id = str(body.get("client_id") or body.get("clientId") or "")
    if seen.door is None or not seen.door.callers:
        return False, f"{kind} in the job, but nobody asked the deployment with a token"
    wanted_kind = "UserIdentity" if identity == "user" else "Managed"
    wanted_id = "" if identity in IDENTITIES else identity
    types = {idtyp for idtyp, _ in seen.door.callers}
    ids = {appid for _, appid in seen.door.callers}
    holds = kind == wanted_kind and client_id == wanted_id and types == {"user" if identity == "user" else "app"}
    holds = holds and (not wanted_id or ids == {wanted_id})
    shown = {"user": "the submitting user", "managed": "the compute's identity"}.get(identity, "the assigned identity")
    tokens = ", ".join(sorted(types))
    return holds, f"{kind} in the job; asked as {shown if holds else tokens}"


def _answers(seen: Seen) -> tuple[bool, str]:
    asked = seen.asked
    if asked is None:
        raise NotSeen
    told = [f"{asked['asked']} requests, {asked['played']} answered by their recordings"]
    told += [f"{asked[what]} {words}" for what, words in _UNANSWERED.items() if asked[what]]
    return asked["asked"] == asked["played"] > 0, ", ".join(told)


def _equal(seen: Seen, name: str) -> tuple[bool, str]:
    if seen.first is None:
        raise NotSeen
    difference = first_difference(seen.local / name, seen.job / name)
    if difference:
        return False, difference
    return True, f"{(seen.job / name).stat().st_size:,} bytes, equal to the local run's"


def _mlflow(seen: Seen) -> tuple[bool, str]:
    if seen.first is None:
        raise NotSeen
    steps = seen.steps()
    asks, scores, pipeline = steps[_ASKS], steps[_SCORES], steps[_ASKS].root
    score = Score.from_json(json.loads((seen.local / "score.json").read_text(encoding="utf-8")))
    figures = metrics(score)
    for run in (scores, pipeline):
        logged = run.figures
        strange = [name for name, value in logged.items() if figures.get(name) != value]
        if strange := strange + [name for name in figures if "/" not in name and name not in logged]:
            return False, f"{len(strange)} figures of {run.display_name} are not those of score.json: {strange[0]}"
    inputs = {"dataset_sha256": seen.subject.dataset, "guidance_program_sha256": seen.subject.program}
    hashes = {name: sha256_file(path) for name, path in inputs.items()}
    if asks.parameters | hashes != asks.parameters:
        return False, f"the parameters of {_ASKS} do not name the dataset and the program that are here"
    if asks.parameters | scores.parameters != pipeline.parameters:
        return False, "the parameters of the pipeline's run are not those of its steps"
    return True, f"{len(scores.figures)} figures as in score.json, {len(pipeline.parameters)} parameters as sent"


def _again(seen: Seen) -> tuple[bool, str]:
    if seen.first is None or not (seen.folder / "again.log").is_file():
        raise NotSeen
    kinds = Counter(kind_of(kept) for kept in seen.requests()[seen.first :] if was_put(kept))
    uploads, jobs = kinds["PUT blobs"], kinds["PUT jobs"]
    versions = sum(kinds[f"PUT {kind}"] for kind in ASSETS)
    told = f"{uploads} uploads, {versions} new versions, {jobs} new job"
    if seen.subject.config.version_scheme == "epoch":
        return jobs == 1, f"{told}, as --version-scheme epoch has it"
    return (uploads, versions, jobs) == (0, 0, 1), told


def _secrets(seen: Seen) -> tuple[bool, str]:
    if seen.twin is None:
        raise NotSeen
    seen.sent("jobs/*")
    kept = seen.requests()
    needles = (seen.canary, seen.twin.identity.client_secret)
    texts = (json.dumps(vars(request), ensure_ascii=False) for request in kept)
    logs = (content.decode("utf-8", "replace") for content in seen.step_logs().values())
    commands = (step.command or "" for step in seen.steps().values())
    leaked = sum(any(needle in text for needle in needles) for text in (*texts, *logs, *commands))
    told = f"none in {len(kept)} requests, the commands and the logs"
    return not leaked, f"{leaked} requests, commands or logs hold a secret" if leaked else told


def _network(seen: Seen) -> tuple[bool, str]:
    kept = seen.requests()
    if not kept:
        raise NotSeen
    strangers = sorted({request.host for request in kept if request.method == "CONNECT" and request.status == 502})
    if strangers:
        return False, f"asked for hosts that no workspace has: {', '.join(strangers)}"
    return True, f"{len(kept)} requests to {len({request.host for request in kept})} hosts, and to no other"


def _message(error: Mapping[str, Any] | None) -> str:
    return str(((error or {}).get("error") or {}).get("message"))
