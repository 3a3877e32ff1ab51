"""A run as a log of inspect-ai, made and written by that package's own classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.hashing import sha256_json
from mmlu_pipe.records import ERROR_KEY, JsonObject
from mmlu_pipe.reporting.export.columns import plain
from mmlu_pipe.reporting.export.rows import judged
from mmlu_pipe.reporting.export.source import Source
from mmlu_pipe.scoring.accuracy import Outcome
from mmlu_pipe.scoring.positions import letter
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
_STOP_REASONS: dict[Any, Any] = {"stop": "stop", "length": "max_tokens", "content_filter": "content_filter"}
_ROLES = {"system": model.ChatMessageSystem, "user": model.ChatMessageUser, "assistant": model.ChatMessageAssistant}


def write_log(source: Source, path: Path, form: Literal["eval", "json"]) -> None:
    """Write the log; its figures are those of `score.json`."""
    manifest, facts, score = _sound(source.manifest), source.run.facts, source.score
    identity = sha256_json(manifest)[:22]  # a run exported again is the same evaluation
    samples = [_sample(source, identity, *_without_surrogates(scored, calls)) for scored, calls in source.lines()]
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
            config=log.EvalConfig(limit=source.run.options.get("limit"), epochs=1, score_on_error=True),
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
                    metadata=_sound(score.to_json()),
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
    log.write_eval_log(found, path, format=form)


def _sample(source: Source, identity: str, scored: ScoredLine, calls: list[JsonObject]) -> log.EvalSample:
    """A line: its first call is what was sent, its last one that went well, or else its last one, what it came to."""
    told, line, name = judged(source, scored, calls), scored.line, f"{identity}-{scored.number}"
    last = next((call for call in reversed(calls) if call.get("error") is None), calls[-1] if calls else {})
    usages = [usage for call in calls if isinstance(usage := call.get("usage"), dict)]
    choices, error = line.get("choices"), line.get(ERROR_KEY)
    correct, response = line.get(source.score.correct_key), line.get(source.score.response_key)
    answer = None if response is None else _text(response)
    if told.chosen is not None:
        answer = letter(told.chosen)
    own = {"question", "choices", source.score.correct_key, ERROR_KEY}
    outcomes = {Outcome.CORRECT: CORRECT, Outcome.UNANSWERED: NOANSWER}
    output = _output(last, name)
    return log.EvalSample(
        id=scored.number,
        epoch=1,
        uuid=name,
        input=_messages(calls[0]["messages"], name) if calls else _text(line.get("question")),
        choices=[_text(choice) for choice in choices] if isinstance(choices, list) else None,
        target=_text(correct) if told.correct is None else letter(told.correct),
        messages=[*_messages(last.get("messages", ()), name), *(choice.message for choice in output.choices)],
        output=output,
        scores={
            _SCORER: Score(
                value=outcomes.get(scored.outcome, INCORRECT),
                answer=answer,
                explanation=f"{scored.outcome}, by the response under {source.score.response_key!r}",
            )
        },
        metadata={key: value for key, value in line.items() if key not in own}
        | {"_outcome": str(scored.outcome), "_correct_probability": told.probability}
        | {"_distribution": last.get("distribution"), "_strategy": last.get("strategy")}
        | {"_calls": len(calls), ERROR_KEY: error},
        model_usage={_model(source): _sum(usages)} if usages else {},
        total_time=sum(call.get("latency_s") or 0.0 for call in calls) if calls else None,
        error=_error(error) if isinstance(error, dict) else None,
    )


def _model(source: Source) -> str:
    return str(source.run.facts.get("model") or "unknown")


def _output(call: JsonObject, name: str) -> model.ModelOutput:
    text, usage = call.get("text"), call.get("usage")
    answer = model.ChatMessageAssistant(content=_text(text), source="generate", id=f"{name}-answer")
    reason = _STOP_REASONS.get(call.get("finish_reason"), "unknown")
    return model.ModelOutput(
        model=str(call.get("served_model") or "unknown"),
        choices=[] if text is None else [model.ChatCompletionChoice(message=answer, stop_reason=reason)],
        usage=_usage(usage) if isinstance(usage, dict) else None,
        time=call.get("latency_s"),
        error=call.get("error"),
    )


def _messages(sent: Sequence[JsonObject], name: str) -> list[Any]:
    return [
        _ROLES.get(message["role"], model.ChatMessageUser)(content=_text(message["content"]), id=f"{name}-{place}")
        for place, message in enumerate(sent)
    ]


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
    line, calls = _sound([scored.line, calls])
    return ScoredLine(scored.number, line, scored.outcome), calls


def _sound(value: Any) -> Any:
    """The same JSON value without lone surrogates."""
    return json.loads(plain(json.dumps(value, ensure_ascii=False)))
