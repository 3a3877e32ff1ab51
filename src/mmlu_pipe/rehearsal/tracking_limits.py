"""What MLflow in a workspace refuses to log, and in which form; docs/fidelity.md names the source of each limit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmlu_pipe.rehearsal.exchange import Json, Refusal, Reply
from mmlu_pipe.rehearsal.runs import Run
from mmlu_pipe.rehearsal.workspace import now

__all__ = ["check_batch", "refused"]

_NAME = re.compile(r"[/\w.\- :]{1,250}")
_PER_BATCH = {"Metrics": 250, "Parameters": 100, "Tags": 100}
_PER_RUN = {"Metrics": 50, "Parameters": 200, "Tags": 50}
_LONGEST_PARAMETER = 500
_LONGEST_TAG = {"key": 100, "value": 1000}


def check_batch(run: Run, metrics: Sequence[Json], params: Sequence[Json], tags: Sequence[Json]) -> None:
    """Refuse a batch that a run cannot take as a whole.

    Args:
        run: what was logged before.
        metrics: each with `key` and `value`.
        params: each with `key` and `value`.
        tags: each with `key` and `value`.

    Raises:
        Refusal: 400, with the rule.
    """
    for entry in (*metrics, *params):
        if not _NAME.fullmatch(str(entry.get("key"))):
            raise _invalid(f"Invalid name: {entry.get('key')!r}")
    _count("Metrics", run.metrics, metrics)
    _count("Parameters", run.parameters, params)
    _count("Tags", run.properties.get("tags") or {}, tags)
    for entry in metrics:
        try:
            float(entry["value"])
        except (KeyError, TypeError, ValueError):
            raise _invalid(f"The value of the metric {entry['key']} is no number.") from None
    for entry in params:
        value = str(entry.get("value", ""))
        _fit("Parameters/Value", value, _LONGEST_PARAMETER)
        if run.parameters.get(entry["key"], value) != value:
            raise _invalid(f"The parameter {entry['key']} was logged with another value.")
    for entry in tags:
        for part, longest in _LONGEST_TAG.items():
            _fit(f"Tags/{part.title()}", str(entry.get(part, "")), longest)


def refused(status: int, code: str, message: str) -> Refusal:
    """An error as MLflow's clients read it: the service's own, and MLflow's code beside it."""
    refusal = Refusal(status, "ValidationError" if status == 400 else "UserError", message)
    inner = {name[0].upper() + name[1:]: value for name, value in refusal.reply.body["error"].items()}
    more = {"Time": now(), "ComponentName": "mlflow", "statusCode": status, "error_code": code}
    refusal.reply = Reply(status, {"Error": inner, **more})
    return refusal


def _count(field: str, known: Mapping[str, Any], entries: Sequence[Json]) -> None:
    if len(entries) > _PER_BATCH[field]:
        raise _oversized(f"{field}/Count", _PER_BATCH[field], len(entries))
    size = len({*known, *(entry.get("key") for entry in entries)})
    if entries and size > _PER_RUN[field]:
        raise _oversized(field, _PER_RUN[field], size)


def _fit(field: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise _oversized(field, longest, len(text))


def _oversized(field: str, limit: int, size: int) -> Refusal:
    return _invalid(
        f"A field of the entity is over the size limit. FieldName={field}, Limit={limit}, Size={size}. "
        "See https://aka.ms/azure-machine-learning-limits for service limits documentation."
    )


def _invalid(message: str) -> Refusal:
    return refused(400, "INVALID_PARAMETER_VALUE", message)
