"""Evaluate chat models on MMLU with guidance programs: locally, on recordings, and on Azure OpenAI.

Names are loaded when they are first used, so that `import mmlu_pipe` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmlu_pipe.api import (
        LoadedRun,
        Plan,
        compare,
        create_dataset,
        load_run,
        plan,
        rehearse,
        run,
        score,
        start,
        sweep,
    )
    from mmlu_pipe.backends.azureml.publish import Published, publish
    from mmlu_pipe.backends.base import Backend, Run
    from mmlu_pipe.checkup.examine import doctor
    from mmlu_pipe.checkup.result import Check, Diagnosis
    from mmlu_pipe.config import RunConfig
    from mmlu_pipe.configfile import load_config
    from mmlu_pipe.errors import MmluPipeError
    from mmlu_pipe.forecast.estimate import estimate
    from mmlu_pipe.forecast.figures import Estimate
    from mmlu_pipe.gate.result import Verification
    from mmlu_pipe.gate.verify import verify
    from mmlu_pipe.grid.result import Sweep
    from mmlu_pipe.plugins import hookimpl
    from mmlu_pipe.proving.result import Proof, Rehearsal, Stage
    from mmlu_pipe.records import Call, Endpoint, Interval, LineAnswer, LineError, Score, SubScore
    from mmlu_pipe.scoring.compare import Comparison

__version__ = "0.1.0"

_HOMES = {
    "mmlu_pipe.api": (
        *(
            "LoadedRun",
            "Plan",
            "compare",
            "create_dataset",
            "load_run",
            "plan",
            "rehearse",
            "run",
            "score",
            "start",
            "sweep",
        ),
    ),
    "mmlu_pipe.backends.azureml.publish": ("Published", "publish"),
    "mmlu_pipe.backends.base": ("Backend", "Run"),
    "mmlu_pipe.checkup.examine": ("doctor",),
    "mmlu_pipe.checkup.result": ("Check", "Diagnosis"),
    "mmlu_pipe.config": ("RunConfig",),
    "mmlu_pipe.configfile": ("load_config",),
    "mmlu_pipe.errors": ("MmluPipeError",),
    "mmlu_pipe.forecast.estimate": ("estimate",),
    "mmlu_pipe.forecast.figures": ("Estimate",),
    "mmlu_pipe.gate.result": ("Verification",),
    "mmlu_pipe.gate.verify": ("verify",),
    "mmlu_pipe.grid.result": ("Sweep",),
    "mmlu_pipe.plugins": ("hookimpl",),
    "mmlu_pipe.proving.result": ("Proof", "Rehearsal", "Stage"),
    "mmlu_pipe.records": ("Call", "Endpoint", "Interval", "LineAnswer", "LineError", "Score", "SubScore"),
    "mmlu_pipe.scoring.compare": ("Comparison",),
}

__all__ = [
    "Backend",
    "Call",
    "Check",
    "Comparison",
    "Diagnosis",
    "Endpoint",
    "Estimate",
    "Interval",
    "LineAnswer",
    "LineError",
    "LoadedRun",
    "MmluPipeError",
    "Plan",
    "Proof",
    "Published",
    "Rehearsal",
    "Run",
    "RunConfig",
    "Score",
    "Stage",
    "SubScore",
    "Sweep",
    "Verification",
    "__version__",
    "compare",
    "create_dataset",
    "doctor",
    "estimate",
    "hookimpl",
    "load_config",
    "load_run",
    "plan",
    "publish",
    "rehearse",
    "run",
    "score",
    "start",
    "sweep",
    "verify",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'mmlu_pipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
