"""Probabilities of the options of a `select`, read from the logprobs of the answer's tokens (pure)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from mmlu_pipe.records import JsonObject

__all__ = ["json_choice_distribution", "text_distribution"]


def text_distribution(tokens: Sequence[JsonObject], options: Sequence[str]) -> dict[str, float] | None:
    """Option → probability of an answer that is the bare option; blanks before it are skipped.

    Walks along the answer's tokens. At each one, every alternative that can only lead to one option gives that option
    its probability, times that of the tokens before it. What is missing from 1 went to tokens that lead to no option,
    or was not among the returned alternatives.
    """
    return _walk([_stripped(token) for token in tokens[:1]] + list(tokens[1:]), "", {o: o.strip() for o in options})


def json_choice_distribution(tokens: Sequence[JsonObject], options: Sequence[str], key: str) -> dict[str, float] | None:
    """The same for an answer `{"<key>": "<option>"}`; the tokens before the value are given, not chosen."""
    content = "".join(str(token.get("token", "")) for token in tokens)
    marker = json.dumps(key)
    start = content.find(marker)
    colon = content.find(":", start + len(marker)) if start >= 0 else -1
    if colon < 0:
        return None
    value = colon + 1 + len(content[colon + 1 :]) - len(content[colon + 1 :].lstrip())
    head = content[:value]
    return _walk(tokens, head, {option: head + json.dumps(option, ensure_ascii=False) for option in options})


def _walk(tokens: Sequence[JsonObject], head: str, targets: dict[str, str]) -> dict[str, float] | None:
    found: dict[str, float] = {}
    prefix, path = "", 1.0
    for token in tokens:
        text = str(token.get("token", ""))
        if len(prefix) + len(text) > len(head):
            before = _leads_to(prefix, targets)
            for other in _alternatives(token):
                reached = _leads_to(prefix + str(other.get("token", "")), targets)
                if len(reached) == 1 and len(before) > 1:
                    found[reached[0]] = found.get(reached[0], 0.0) + path * _probability(other)
            chosen = _leads_to(prefix + text, targets)
            if len(chosen) < 2:
                break
            if len(chosen) < len(before):
                path *= _probability(token)
        prefix += text
    return {option: min(found[option], 1.0) for option in targets if option in found} or None


def _leads_to(prefix: str, targets: dict[str, str]) -> list[str]:
    """The options whose target the prefix can become, or already contains."""
    exact = [option for option, target in targets.items() if target.startswith(prefix)]
    return exact or [option for option, target in targets.items() if target and prefix.startswith(target)]


def _alternatives(token: JsonObject) -> list[JsonObject]:
    """The returned alternatives, with the chosen token among them once."""
    others = list(token.get("top_logprobs") or ())
    if all(other.get("token") != token.get("token") for other in others):
        others.append(token)
    return others


def _stripped(token: JsonObject) -> JsonObject:
    """A first token without its leading blanks; so are its alternatives, whose equal texts add up."""
    return token | {
        "token": str(token.get("token", "")).lstrip(),
        "top_logprobs": [
            other | {"token": str(other.get("token", "")).lstrip()} for other in token.get("top_logprobs") or ()
        ],
    }


def _probability(token: JsonObject) -> float:
    logprob = token.get("logprob")
    return math.exp(min(float(logprob), 0.0)) if isinstance(logprob, int | float) else 0.0
