"""The MMLU pipeline: two steps with bound ports, built once for every backend."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.components.component import Component
from mmlu_pipe.config import RunConfig
from mmlu_pipe.plugins import registry
from mmlu_pipe.records import Endpoint

__all__ = ["OutputOf", "Pipeline", "Step", "mmlu_pipeline", "service_name"]


@dataclass(frozen=True)
class OutputOf:
    """A binding: the output `port` of an earlier step."""

    step: str
    port: str


@dataclass(frozen=True)
class Step:
    """A component with values for its input ports; outputs are placed by the backend."""

    name: str
    component: Component
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """Steps in the order in which they run; its name can be that of an experiment."""

    name: str
    steps: tuple[Step, ...]


def mmlu_pipeline(
    config: RunConfig,
    *,
    dataset: Path,
    program: Path,
    endpoint: Endpoint | None,
    cassette: Path | None,
    examples: Path | None = None,
    program_options: Mapping[str, Any] | None = None,
    dataset_keys: Sequence[str] = (),
) -> Pipeline:
    """Component 1 on the dataset, component 2 on what it wrote.

    Args:
        config: options of the run.
        dataset: the located dataset.
        program: the located program.
        endpoint: the deployment, None for a replay by provenance.
        cassette: recordings to play from or record into.
        examples: the located examples, for a program that shows some.
        program_options: the program's options.
        dataset_keys: keys that the dataset's lines have, none of which can be the response; () if not known.
    """
    components: dict[str, Component] = registry("components")
    answer = Step(
        "run_aoai_guidance",
        components["jsonl_guidance_aoai"],
        {
            "guidance_program": program,
            "input_dataset": dataset,
            "examples_dataset": examples,
            "program_options": _argument(dict(program_options)) if program_options else None,
            "azure_openai_endpoint": endpoint and endpoint.endpoint,
            "azure_openai_deployment": endpoint and endpoint.deployment,
            "azure_openai_model": endpoint and endpoint.model,
            "azure_openai_api_version": endpoint and endpoint.api_version,
            "guidance_workers": config.workers,
            "requests_per_minute": config.rpm,
            "tokens_per_minute": config.tpm,
            "timeout": float(config.timeout),
            "max_wait": float(config.max_wait),
            "max_errors": config.max_errors,
            "on_content_filter": config.on_content_filter,
            "retry_errors": config.retry_errors,
            "auth": config.auth,
            "select_strategy": config.select_strategy,
            "require": ",".join(config.require) or None,
            "seed": config.seed,
            "reasoning_effort": config.reasoning_effort,
            "stream": config.stream,
            "limit": config.limit,
            "lines": config.lines,
            "output_encoding": config.output_encoding,
            "cassette": cassette,
            "record_mode": config.record_mode,
            "record_note": config.record_note,
        },
    )
    score = Step(
        "score_results",
        components["jsonl_score_multiplechoice"],
        {
            "input_dataset": OutputOf(answer.name, "output_dataset"),
            "error_dataset": OutputOf(answer.name, "error_dataset"),
            "calls_dataset": OutputOf(answer.name, "calls_dataset"),
            "correct_key": config.correct_key,
            "response_key": config.response_key,
            "dataset_keys": _argument(list(dataset_keys)) if dataset_keys else None,
        },
    )
    return Pipeline(service_name(f"simple_{dataset.stem}"), (answer, score))


def service_name(text: str) -> str:
    """A name that AzureML takes for an asset or an experiment: `_` for what is no ASCII letter, digit, `_` or `-`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text).lstrip("_-")[:255] or "unnamed"


def _argument(value: Any) -> str:
    """JSON that a command line in single quotes can carry, and in which no service finds an expression."""
    return re.sub(r"['$]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value))
