"""Every hook, in one place: what third parties can add, and what they can watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mmlu_pipe.records import Endpoint, JsonObject, LineAnswer, Score

__all__ = ["PROJECT", "hookspec"]

PROJECT = "mmlu_pipe"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
Register = Callable[[str, Any], None]


@hookspec
def register_backends(register: Register) -> None:
    """Add a backend: `register(name, backend)` with a `backends.base.Backend`."""


@hookspec
def register_components(register: Register) -> None:
    """Add a component: `register(name, component)` with a `components.component.Component`."""


@hookspec
def register_select_strategies(register: Register) -> None:
    """Add a way to `select` on chat endpoints: `register(name, strategy)` with an `endpoint.select.SelectStrategy`."""


@hookspec
def register_dataset_loaders(register: Register) -> None:
    """Add a source for create-dataset: `register(name, loader)` with a `dataset.loader.Loader`."""


@hookspec
def register_commands(register: Register) -> None:
    """Add a command line command: `register(name, command)` with a `click.Command`."""


@hookspec(firstresult=True)
def make_model(endpoint: Endpoint, options: dict[str, Any]) -> Any:
    """Return a guidance Model that answers instead of the endpoint, or None to leave it to the next plugin."""


@hookspec
def before_submit(plan: dict[str, Any]) -> list[str] | None:
    """Return objections to a run that is about to start, or None; any objection stops it."""


@hookspec
def run_started(dataset: str, total: int, done: int) -> None:
    """Watch a run begin: of its `total` lines, `done` were finished before."""


@hookspec
def line_finished(answer: LineAnswer) -> None:
    """Watch a line end: in any order, in any thread, and one at a time."""


@hookspec
def concurrency_changed(limit: int) -> None:
    """Watch how many requests may be under way at once, as the endpoint's limits are met."""


@hookspec
def run_finished(status: str) -> None:
    """Watch component 1 end: `completed`, `failed` or `cancelled`."""


@hookspec
def run_settled(facts: JsonObject, options: JsonObject) -> None:
    """Watch what component 1 settled and counted, as `run` of a manifest has it, and the options that decided it."""


@hookspec
def score_finished(score: Score, facts: JsonObject, options: JsonObject) -> None:
    """Watch the score arrive; `facts` and `options` are those of the manifest, empty in a step of a job."""
