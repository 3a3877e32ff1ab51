"""Where the inputs that ship with the package are: beside it in a wheel, at the root of a checkout otherwise."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "SAMPLE_DATASETS",
    "bundled_cassette",
    "bundled_program",
    "bundled_programs",
    "bundled_requirements",
    "examples_for",
]

_PACKAGE = Path(__file__).resolve().parent

SAMPLE_DATASETS = {
    "sample": _PACKAGE / "dataset" / "sample_test.jsonl",
    "sample_dev": _PACKAGE / "dataset" / "sample_dev.jsonl",
}
"""Datasets that can be named without a file: the scored split, and the few-shot one."""


def examples_for(dataset: str, named: str | None) -> str | None:
    """The dataset whose lines are examples for another: the named one, or else that of the sample."""
    return "sample_dev" if named is None and dataset == "sample" else named


def _root() -> Path:
    in_wheel = _PACKAGE / "_bundled"
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent.parent


def bundled_programs() -> dict[str, Path]:
    """Name → file of the guidance programs that ship with the package."""
    return {path.stem: path for path in sorted((_root() / "guidance_programs").glob("*.py"))}


def bundled_program(name: str) -> Path | None:
    """The bundled guidance program of that name, if there is one."""
    return bundled_programs().get(name)


def bundled_cassette(dataset: str, program: str) -> Path:
    """The folder of the bundled recordings of a dataset under a program; it need not exist."""
    return _root() / "cassettes" / f"{dataset}-{program}"


def bundled_requirements() -> Path:
    """The pins of a job's packages."""
    return _root() / "environments" / "requirements.txt"
