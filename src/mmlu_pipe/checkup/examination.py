"""How a check is made: within a time limit, after those that it needs, and with every failure put into words."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmlu_pipe.backends.azureml.failures import scrubbed
from mmlu_pipe.checkup.result import Check, State
from mmlu_pipe.endpoint.credentials import KEY_VARIABLE
from mmlu_pipe.errors import ContentFiltered, MmluPipeError, RateLimited

__all__ = ["ROLE", "Examination", "Finding", "worded"]

ROLE = "Cognitive Services OpenAI User"
"""Whoever asks a deployment with Entra ID needs it, on the Azure OpenAI resource."""

LIMIT_S = 30.0
"""How long a check may take; one that takes longer has failed, and its thread is left behind."""

_SECRETS = (KEY_VARIABLE, "AZURE_CLIENT_SECRET", "AZURE_PASSWORD", "AZURE_CLIENT_CERTIFICATE_PASSWORD")
"""Environment variables whose values are never shown, whoever repeats them."""


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        found, advice, state: as in `Check`.
        value: what later checks get; None where they cannot be made.
    """

    found: str
    advice: str | None = None
    state: State = "ok"
    value: Any = True


class Examination:
    """The checks so far.

    Args:
        told: is told of each check when it is done.
    """

    def __init__(self, told: Callable[[Check], None]) -> None:
        self._told = told
        self._values: dict[str, Any] = {}
        self.checks: list[Check] = []

    def check(self, name: str, look: Callable[..., Finding], *needs: str) -> None:
        """Make a check, with the values of the checks that it needs as arguments; without one of them it is skipped."""
        missing = next((need for need in needs if self.value(need) is None), None)
        if missing is not None:
            self.skip(name, f"needs {missing}")
            return
        started = time.monotonic()
        finding = _in_time(lambda: look(*(self._values[need] for need in needs)))
        if finding.state != "failed":
            self._values[name] = finding.value
        self._note(name, finding, round(time.monotonic() - started, 3))

    def skip(self, name: str, why: str) -> None:
        """Note that a check is not made."""
        self._note(name, Finding(f"not checked: {why}", state="skipped"), 0.0)

    def value(self, name: str) -> Any:
        """What a check found for others; None where it failed, or was not made."""
        return self._values.get(name)

    def _note(self, name: str, finding: Finding, seconds: float) -> None:
        advice = None if finding.advice is None else _safe(finding.advice)
        check = Check(name, finding.state, _safe(finding.found), advice, seconds)
        self.checks.append(check)
        self._told(check)


def worded(error: MmluPipeError, *more: str) -> Finding:
    """A failure as a finding: its first statement, the rest as advice, and further advice; some do not stop a run."""
    first, _, rest = str(error).partition("\n")
    if not rest:
        first, _, rest = first.partition("; ")
    lines = [line.strip() for line in rest.splitlines()]
    state: State = "warning" if isinstance(error, RateLimited | ContentFiltered) else "failed"
    fallback = "correct what is named here" if state == "failed" else None
    return Finding(first, "; ".join([*filter(None, lines), *more]) or fallback, state, value=None)


def _in_time(look: Callable[[], Finding]) -> Finding:
    """In a thread, since neither name look-ups nor every library below know a time limit."""
    done: list[Finding] = []

    def attempt() -> None:
        try:
            done.append(look())
        except MmluPipeError as error:
            done.append(worded(error))
        except Exception as error:  # noqa: BLE001 - one check that breaks must not hide what the others find
            said = (str(error).strip().splitlines() or ["no details given"])[0]
            done.append(Finding(f"{type(error).__name__}: {said}", "nobody expected this; please report it", "failed"))

    thread = threading.Thread(target=attempt, name="doctor", daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if done:
        return done[0]
    return Finding(f"no answer within {LIMIT_S:g} seconds", "check the network, HTTPS_PROXY and the firewall", "failed")


def _safe(text: str) -> str:
    for name in _SECRETS:
        if secret := os.environ.get(name, "").strip():
            text = text.replace(secret, "[credential]")
    return scrubbed(text)
