"""Probabilities of the options of a `select`, read from the logprobs of the answer's tokens (pure).

An answer is walked token by token. At each, every alternative after which only one option is left gives that option
its probability, times that of the tokens taken before it; the walk ends where the answer itself has settled on one
option, or left them all. So what is missing from 1 went to texts that are no option, or was not among the returned
alternatives. Where one option begins another ("1" and "10") and the answer ends with the shorter, the shorter has no
probability: no endpoint gives the logprob of ending. Tokens are compared as bytes, since a token may hold a part of a
character.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmlu_pipe.records import JsonObject

__all__ = ["json_choice_distribution", "text_distribution"]

_Step = tuple[bytes, dict[bytes, float]]
"""A token as it was taken, and the probability of every token that could have been, itself among them."""


def text_distribution(tokens: Sequence[JsonObject], options: Sequence[str]) -> dict[str, float] | None:
    """Option → probability of an answer that is the bare option, or None where the logprobs tell of none.

    Blanks around it and a full stop after it do not matter.
    """
    targets = {option: _encoded(option.strip()) for option in options}
    return _walk(b"", _without_leading_blanks(_steps(tokens)), targets, (b"", b"."))


def json_choice_distribution(tokens: Sequence[JsonObject], options: Sequence[str], key: str) -> dict[str, float] | None:
    """The same for an answer `{"<key>":"<option>"}`; all up to the value's opening quote is given, not chosen."""
    texts = [_text(token) for token in _objects(tokens)]
    content = b"".join(texts)
    opening = re.search(re.escape(_encoded(json.dumps(key))) + rb'\s*:\s*"', content)
    if opening is None:
        return None
    head = content[: opening.end()]
    given = sum(1 for end in itertools.accumulate(map(len, texts)) if end <= len(head))
    targets = {option: head + _encoded(json.dumps(option, ensure_ascii=False)[1:]) for option in options}
    return _walk(b"".join(texts[:given]), _steps(_objects(tokens)[given:]), targets, (b"", b"}"))


def _walk(
    prefix: bytes, steps: Iterable[_Step], targets: Mapping[str, bytes], tails: Sequence[bytes]
) -> dict[str, float] | None:
    def left(text: bytes) -> list[str]:
        """The options that the answer can still become after `text`, or that it is but for a tail."""
        return [
            option
            for option, target in targets.items()
            if target.startswith(text) or (text.startswith(target) and text[len(target) :].strip() in tails)
        ]

    found: dict[str, float] = {}
    path = 1.0
    for taken, alternatives in steps:
        for other, probability in alternatives.items():
            share = path * probability
            reached = left(prefix + other)
            if len(reached) == 1 and share > 0:
                found[reached[0]] = found.get(reached[0], 0.0) + share
        prefix += taken
        path *= alternatives[taken]
        if len(left(prefix)) < 2:
            break
    return {option: min(found[option], 1.0) for option in targets if option in found} or None


def _steps(tokens: Any) -> Iterator[_Step]:
    for token in _objects(tokens):
        found: dict[bytes, float] = {}
        for other in _objects(token.get("top_logprobs")):
            found[_text(other)] = found.get(_text(other), 0.0) + _probability(other)
        found.setdefault(_text(token), _probability(token))
        yield _text(token), found


def _without_leading_blanks(steps: Iterable[_Step]) -> Iterator[_Step]:
    """Tokens that differ in the blanks before the answer are one, and their probabilities add up."""
    begun = False
    for taken, alternatives in steps:
        if begun:
            yield taken, alternatives
            continue
        merged: dict[bytes, float] = {}
        for other, probability in alternatives.items():
            merged[other.lstrip()] = merged.get(other.lstrip(), 0.0) + probability
        begun = bool(taken.lstrip())
        yield taken.lstrip(), merged


def _objects(value: Any) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def _text(token: JsonObject) -> bytes:
    """The bytes of a token; its text where they are not given."""
    given = token.get("bytes")
    try:
        found = bytes(given) if isinstance(given, list) else b""
    except (TypeError, ValueError):
        found = b""
    return found or _encoded(str(token.get("token") or ""))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _probability(token: JsonObject) -> float:
    logprob = token.get("logprob")
    if not isinstance(logprob, int | float) or not logprob > -700:  # NaN, -inf, or the -9999 that stands for never
        return 0.0
    return math.exp(min(logprob, 0.0))
