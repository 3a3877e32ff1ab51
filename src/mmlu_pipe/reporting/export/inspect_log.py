"""A run as a log of inspect-ai, made and written by that package's own classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.hashing import sha256_json
from mmlu_pipe.records import ERROR_KEY, JsonObject
from mmlu_pipe.reporting.export.columns import plain
from mmlu_pipe.reporting.export.rows import judged, letter
from mmlu_pipe.reporting.export.source import Source
from mmlu_pipe.scoring.accuracy import Outcome
from mmlu_pipe.scoring.runs import ScoredLine

try:
    from inspect_ai import log, model
    from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score
except ImportError as missing:
    raise ConfigError(
        f"an Inspect log needs the package inspect-ai, which cannot be loaded ({missing}); install it with: "
        'pip install "mmlu-pipe[inspect]"',
        key="format",
    ) from missing

__all__ = ["write_log"]

_SCORER = "multiple_choice"
_ROLES = {"system": model.ChatMessageSystem, "user": model.ChatMessageUser, "assistant": model.ChatMessageAssistant}


def write_log(source: Source, path: Path) -> None:
    """Write the log in the `.eval` format; its figures are those of `score.json`."""
    samples = [_sample(source, *_without_surrogates(scored, calls)) for scored, calls in source.lines()]
    manifest, facts, score = source.manifest, source.run.facts, source.score
    identity = sha256_json(manifest)[:22]
    usage = facts.get("tokens")
    figures = {"accuracy": score.accuracy, "stderr": score.stderr}
    found = log.EvalLog(
        status="success",
        eval=log.EvalSpec(
            created=manifest["started"],
            task=Path(source.run.program[0]).stem,
            task_id=identity,
            run_id=identity,
            eval_id=identity,
            task_file=source.run.program[0],
            dataset=log.EvalDataset(
                name=Path(source.run.dataset[0]).stem,
                samples=len(samples),
                sample_ids=[sample.id for sample in samples],
                shuffled=False,
            ),
            model=_model(source),
            config=log.EvalConfig(limit=source.run.options.get("limit"), epochs=1),
            packages={name: str(version) for name, version in manifest.get("versions", {}).items()},
            metadata={"manifest": manifest},
        ),
        results=log.EvalResults(
            total_samples=score.count,
            completed_samples=score.count - score.failed,
            scores=[
                log.EvalScore(
                    name=_SCORER,
                    scorer=_SCORER,
                    scored_samples=score.count,
                    unscored_samples=0,
                    metrics={
                        name: log.EvalMetric(name=name, value=value)
                        for name, value in figures.items()
                        if value is not None
                    },
                    metadata=score.to_json(),
                )
            ],
        ),
        stats=log.EvalStats(
            started_at=manifest["started"],
            completed_at=manifest["finished"],
            model_usage={_model(source): _usage(usage)} if isinstance(usage, dict) else {},
        ),
        samples=samples,
    )
    log.write_eval_log(found, path, format="eval")


def _sample(source: Source, scored: ScoredLine, calls: list[JsonObject]) -> log.EvalSample:
    """A line. What was sent is its first call; what it came to, its last call that gave an answer."""
    told, line = judged(source, scored, calls), scored.line
    last = next((call for call in reversed(calls) if call.get("error") is None and call.get("text") is not None), None)
    usages = [usage for call in calls if isinstance(usage := call.get("usage"), dict)]
    question, choices, error = line.get("question"), line.get("choices"), line.get(ERROR_KEY)
    correct, response = line.get(source.score.correct_key), line.get(source.score.response_key)
    own = {"question", "choices", source.score.correct_key, ERROR_KEY}
    outcomes = {Outcome.CORRECT: CORRECT, Outcome.UNANSWERED: NOANSWER}
    output = _output(last) if last else model.ModelOutput(model=_model(source))
    return log.EvalSample(
        id=scored.number,
        epoch=1,
        uuid=f"{sha256_json(source.manifest)[:22]}-{scored.number}",
        input=_messages(calls[0]["messages"]) if calls else _text(question),
        choices=[_text(choice) for choice in choices] if isinstance(choices, list) else None,
        target=letter(told.correct) or _text(correct),
        messages=[*_messages(last["messages"]), output.choices[0].message] if last else [],
        output=output,
        scores={
            _SCORER: Score(
                value=outcomes.get(scored.outcome, INCORRECT),
                answer=letter(told.chosen) or (None if response is None else _text(response)),
                explanation=f"{scored.outcome}, by the response under {source.score.response_key!r}",
            )
        },
        metadata={name: value for name, value in line.items() if name not in own}
        | {"_outcome": str(scored.outcome), "_correct_probability": told.probability}
        | {"_distribution": last and last.get("distribution"), "_strategy": last and last.get("strategy")}
        | {"_calls": len(calls), "_error": error},
        model_usage={_model(source): _sum(usages)} if usages else {},
        total_time=sum(call.get("latency_s") or 0.0 for call in calls) if calls else None,
        error=_error(error) if isinstance(error, dict) else None,
    )


def _model(source: Source) -> str:
    return str(source.run.facts.get("model") or "unknown")


def _output(call: JsonObject) -> model.ModelOutput:
    usage = call.get("usage")
    return model.ModelOutput(
        model=str(call.get("served_model") or "unknown"),
        choices=[
            model.ChatCompletionChoice(
                message=model.ChatMessageAssistant(content=call["text"], source="generate"),
                stop_reason="stop" if call.get("finish_reason") == "stop" else "unknown",
            )
        ],
        usage=_usage(usage) if isinstance(usage, dict) else None,
        time=call.get("latency_s"),
    )


def _messages(sent: Sequence[JsonObject]) -> list[Any]:
    return [_ROLES.get(message["role"], model.ChatMessageUser)(content=_text(message["content"])) for message in sent]


def _sum(usages: list[JsonObject]) -> model.ModelUsage:
    names = ("prompt_tokens", "completion_tokens")
    return _usage({name: sum(usage.get(name) or 0 for usage in usages) for name in names})


def _usage(usage: JsonObject) -> model.ModelUsage:
    sent, answered = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    return model.ModelUsage(input_tokens=sent, output_tokens=answered, total_tokens=sent + answered)


def _error(error: JsonObject) -> log.EvalError:
    told = f"{error.get('error_type')}: {error.get('message')}"
    return log.EvalError(message=told, traceback=told, traceback_ansi=told)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without_surrogates(scored: ScoredLine, calls: list[JsonObject]) -> tuple[ScoredLine, list[JsonObject]]:
    line, calls = json.loads(plain(json.dumps([scored.line, calls], ensure_ascii=False)))
    return ScoredLine(scored.number, line, scored.outcome), calls
