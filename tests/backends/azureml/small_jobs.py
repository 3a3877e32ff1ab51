"""Jobs of two small steps that leave the outputs of a run, or behave as a test wants."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.submission import output_uri
from mmlu_pipe.components.jsonl_score_multiplechoice import jsonl_score_multiplechoice
from mmlu_pipe.rehearsal import Azurite, Run, RunningStep, Twin
from tests.rehearsal.rest import ask, component, node, workspace_url

LINE: dict[str, Any] = {
    "subject": "astronomy",
    "question": "?",
    "choices": ["a", "b", "c", "d"],
    "correct_answer": 1,
}
ERROR = {"line_number": 3, "kind": "refused", "error_type": "Refused", "message": "no"}


def _jsonl(*lines: dict[str, Any]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


FILES = {
    "output_dataset": _jsonl(LINE | {"zero_shot_choice": 1}, LINE | {"zero_shot_choice": 0}),
    "error_dataset": _jsonl(LINE | {"_error": ERROR}),
    "calls_dataset": _jsonl({"line_number": 1}),
}
NAMES = {
    "output_dataset": "output.jsonl",
    "error_dataset": "errors.jsonl",
    "calls_dataset": "calls.jsonl",
    "run_facts": "facts.json",
    "score_dataset": "score.json",
}
ASKS, SCORES = "run_aoai_guidance", "score_results"


def facts(**changes: bytes) -> dict[str, Any]:
    hashes = {NAMES[port]: hashlib.sha256(content).hexdigest() for port, content in (FILES | changes).items()}
    return {
        "dataset": {"file": "three.jsonl", "sha256": "d" * 64, "lines": 3},
        "program": {"file": "zero_shot.py", "sha256": "e" * 64},
        "answered": 2,
        "failed": 1,
        "outputs": hashes,
    }


@cache
def score(lines: int = 3) -> bytes:
    """What component 2 writes for the first of the files' lines."""
    ports = {"input_dataset": FILES["output_dataset"], "error_dataset": FILES["error_dataset"] if lines > 2 else b""}
    with tempfile.TemporaryDirectory() as folder:
        paths = {port: Path(folder, port) for port in ports}
        for port, content in ports.items():
            paths[port].write_bytes(content)
        target = Path(folder, "score.json")
        jsonl_score_multiplechoice(**paths, score_dataset=target)
        return target.read_bytes()


def contents(**changes: bytes) -> dict[str, bytes]:
    """Port → what a job that goes well leaves there."""
    return FILES | {"run_facts": json.dumps(facts()).encode(), "score_dataset": score()} | changes


def write(**outputs: bytes) -> str:
    """A shell command that writes outputs."""
    return "; ".join(
        f"echo {base64.b64encode(content).decode()} | base64 -d > ${{{{outputs.{port}}}}}"
        for port, content in outputs.items()
    )


def checkpoint(twin: Twin, azurite: Azurite, job_name: str) -> None:
    """Leave one of a job."""
    container = twin.workspace.containers["workspaceblobstore"]
    azurite.put(container, f"mmlu_pipe/{job_name}/checkpoints/ledger-000001.jsonl", b"{}\n")


def submit(
    twin: Twin,
    first: str = "",
    second: str = "",
    *,
    writes: dict[str, bytes] | None = None,
    literals: dict[str, str] | None = None,
    uris: dict[str, str] | None = None,
) -> Run:
    """Submit a job whose steps run these shell commands before, and in the second step after, they write outputs."""
    left = contents() if writes is None else writes
    name = f"job_{uuid.uuid4().hex[:8]}"
    places = {port: output_uri(name, port, file) for port, file in NAMES.items()} | (uris or {})
    parts = {
        ASKS: (first, [port for port in NAMES if port != "score_dataset"]),
        SCORES: (second, ["score_dataset"]),
    }
    steps: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    for step, (command, ports) in parts.items():
        inputs = {key: {"type": "string"} for key in literals or {}} if step == ASKS else {"rows": {"type": "uri_file"}}
        told = f"echo step {step}; {command or 'true'}; {write(**{p: left[p] for p in ports if p in left}) or 'true'}"
        declared = {port: {"type": "uri_file"} for port in ports}
        made = component(twin, f"{step}_{name}", told, inputs, declared)
        given = literals if step == ASKS else {"rows": f"${{{{parent.jobs.{ASKS}.outputs.output_dataset}}}}"}
        bound = {port: {"value": f"${{{{parent.outputs.{port}}}}}", "type": "literal"} for port in ports}
        steps[step] = node(made, given or {}, bound)
        placed = {"jobOutputType": "uri_file", "mode": "ReadWriteMount"}
        outputs |= {port: placed | {"uri": places[port]} for port in ports}
    body = {
        "jobType": "Pipeline",
        "experimentName": "simple_three",
        "tags": {"mmlu_pipe": "0.1.0"},
        "jobs": steps,
        "outputs": outputs,
    }
    status, answer = ask(twin, workspace_url(twin, f"/jobs/{name}"), "PUT", body={"properties": body})
    assert status == 201, answer
    return twin.job(name)


WAITS_ON_ITS_FIRST_NODE = "test -e ${{outputs.run_facts}} || { touch ${{outputs.run_facts}}; echo waiting; sleep 60; }"
"""A command that `preempt_once_it_waits` takes the node from, and that ends at once on the next one."""


def preempt_once_it_waits(step: RunningStep) -> None:
    """A drill: the first node of the step that asks is taken away."""
    while step.name == ASKS and step.attempt == 1 and not step.ended:
        if "waiting" in step.log():
            step.preempt()
            return
        time.sleep(0.05)
