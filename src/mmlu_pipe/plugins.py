"""The plugin manager: built-ins by dotted name, loaded when first asked for, and installed plugins by entry point."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import threading
from functools import lru_cache
from typing import Any

import pluggy

from mmlu_pipe import hookspecs
from mmlu_pipe.errors import ConfigError

__all__ = ["hookimpl", "manager", "notify", "objections_to", "registry"]

hookimpl = pluggy.HookimplMarker(hookspecs.PROJECT)

_log = logging.getLogger("mmlu_pipe.plugins")
_registering = threading.RLock()

BUILTINS: dict[str, tuple[str, ...]] = {
    "backends": ("mmlu_pipe.backends.local", "mmlu_pipe.backends.azureml.backend"),
    "components": (
        "mmlu_pipe.components.jsonl_guidance_aoai",
        "mmlu_pipe.components.jsonl_score_multiplechoice",
    ),
    "select_strategies": ("mmlu_pipe.endpoint.select",),
    "dataset_loaders": ("mmlu_pipe.dataset.local_files", "mmlu_pipe.dataset.hub"),
    "commands": (
        "mmlu_pipe.cli.run",
        "mmlu_pipe.cli.sweep",
        "mmlu_pipe.cli.plan",
        "mmlu_pipe.cli.rehearse",
        "mmlu_pipe.cli.doctor",
        "mmlu_pipe.cli.publish",
        "mmlu_pipe.cli.jobs",
        "mmlu_pipe.cli.score",
        "mmlu_pipe.cli.compare",
        "mmlu_pipe.cli.report",
        "mmlu_pipe.cli.export",
        "mmlu_pipe.cli.create_dataset",
        "mmlu_pipe.cli.verify",
        "mmlu_pipe.cli.estimate",
        "mmlu_pipe.cli.cassette",
        "mmlu_pipe.cli.serve",
    ),
}
"""Kind of registration → modules that come with the package and use the same hook as third parties."""

OBSERVERS = ("mmlu_pipe.reporting.mlflow",)
"""Modules of the package that watch runs."""


@lru_cache(maxsize=1)
def manager() -> pluggy.PluginManager:
    """The process's plugin manager; installed plugins stay off where MMLU_PIPE_NO_PLUGINS is set.

    Raises:
        ConfigError: an installed plugin does not load, naming it.
    """
    found = pluggy.PluginManager(hookspecs.PROJECT)
    found.add_hookspecs(hookspecs)
    for name in OBSERVERS:
        found.register(importlib.import_module(name))
    if os.environ.get("MMLU_PIPE_NO_PLUGINS"):
        return found
    for entry in importlib.metadata.entry_points(group=hookspecs.PROJECT):
        try:
            found.register(entry.load(), name=entry.name)
        except Exception as error:
            raise ConfigError(
                f"the installed plugin {entry.name!r} ({entry.value}) does not load ({type(error).__name__}: {error}); "
                "uninstall it, or set MMLU_PIPE_NO_PLUGINS=1"
            ) from error
    return found


def registry(kind: str) -> dict[str, Any]:
    """Name → thing of one kind (`backends`, `components`, `select_strategies`, `dataset_loaders`, `commands`).

    Raises:
        ConfigError: two plugins register the same name.
    """
    with _registering:
        plugins = manager()
        modules = [_register(name) for name in BUILTINS[kind]]
    found: dict[str, Any] = {}

    def register(name: str, thing: Any) -> None:
        if name in found:
            raise ConfigError(f"two plugins register the {kind} {name!r}; uninstall one of them")
        found[name] = thing

    # Installed plugins are known before the built-ins, which are loaded when first asked for, but come first here.
    implementations = getattr(plugins.hook, f"register_{kind}").get_hookimpls()
    for implementation in sorted(implementations, key=lambda each: each.plugin not in modules):
        implementation.function(**dict.fromkeys(implementation.argnames, register))
    return found


def objections_to(plan: dict[str, Any]) -> list[str]:
    """What the plugins, the gate among them, have against a run that is about to start."""
    _register("mmlu_pipe.gate.demand")
    return [text for found in manager().hook.before_submit(plan=plan) for text in found or ()]


def _register(name: str) -> Any:
    """A module of the package as a plugin."""
    module = importlib.import_module(name)
    if not manager().is_registered(module):
        manager().register(module)
    return module


def notify(hook: str, **arguments: Any) -> None:
    """Call an observer hook; an observer can never change a run, so what it raises is only logged."""
    for implementation in reversed(getattr(manager().hook, hook).get_hookimpls()):
        try:
            implementation.function(**{name: arguments[name] for name in implementation.argnames})
        except (Exception, SystemExit):  # noqa: BLE001 - whatever a plugin raises, the run goes on
            _log.exception("the plugin %s failed in %s; the run goes on", implementation.plugin_name, hook)
