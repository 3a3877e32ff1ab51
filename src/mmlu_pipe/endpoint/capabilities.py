"""Which optional request fields a deployment accepts, settled once per run.

`settle` reads the sourced table (`capability_table`), `apply` fits a wanted body to it and says what it
changed, `correction` learns from an HTTP 400 where the table is wrong, `unmet` knows what `--require` misses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mmlu_pipe.endpoint.capability_table import RULES, SOURCES, Rule, Source, check_version, family, look_up
from mmlu_pipe.errors import ConfigError

__all__ = [
    "REQUIRABLE",
    "RULES",
    "SOURCES",
    "Capabilities",
    "Correction",
    "Dropped",
    "Requirement",
    "Rule",
    "Source",
    "apply",
    "correction",
    "family",
    "parse_requirement",
    "parse_requirements",
    "rejected_fields",
    "settle",
    "unmet",
]

TokenLimit = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True)
class Capabilities:
    """What one deployment accepts, as far as is known; the defaults are what every API version takes."""

    model: str
    api_version: str
    chat: bool = True
    temperature: bool = True
    top_p: bool = True
    penalties: bool = True  # presence_penalty, frequency_penalty, logit_bias
    stop: bool = True
    stream: bool = True
    seed: bool = False
    logprobs: bool = False
    max_top_logprobs: int = 0
    stream_options: bool = False
    json_object: bool = False
    structured_outputs: bool = False
    token_limit: TokenLimit = "max_tokens"  # noqa: S105 - the name of a field
    either_token_limit: bool = False  # the other name is accepted as well
    reasoning_effort: tuple[str, ...] = ()
    corrected: tuple[str, ...] = ()  # wire fields that an answer of the endpoint has settled


def settle(model: str, api_version: str) -> Capabilities:
    """What a deployment of `model` accepts under `api_version`: dated, or v1, preview, latest or empty."""
    version = check_version(api_version)
    known = look_up(model, version)
    if not known.get("logprobs"):
        known["max_top_logprobs"] = 0
    return Capabilities(model=model, api_version=version, **known)


_GATES = {name: name for name in ("temperature", "top_p", "seed", "stop", "stream", "logprobs")}
_GATES |= {"stream_options": "stream_options", "top_logprobs": "logprobs"}
_GATES |= dict.fromkeys(("presence_penalty", "frequency_penalty", "logit_bias"), "penalties")
_LIMITS: tuple[TokenLimit, TokenLimit] = ("max_completion_tokens", "max_tokens")
_FORMATS = {"json_schema": "structured_outputs", "json_object": "json_object"}


@dataclass(frozen=True)
class Dropped:
    """A wanted field that is sent differently (`sent`) or not at all (None), and why."""

    field: str
    wanted: Any
    reason: str
    sent: Any = None

    def __str__(self) -> str:
        shown = self.field if isinstance(self.wanted, dict | list) else f"{self.field}={self.wanted}"
        sent = "".join(self.sent) if isinstance(self.sent, dict) else self.sent
        return f"{shown} is {'not sent' if sent is None else f'sent as {sent}'}: {self.reason}"


def _objection(capabilities: Capabilities, body: Mapping[str, Any], field: str) -> str | None:
    who, value = f"{capabilities.model} on {capabilities.api_version}", body[field]
    if field == "stream" and not value:
        return None
    if field in _GATES and not getattr(capabilities, _GATES[field]):
        return f"{who} does not accept '{field}'"
    if field == "top_logprobs" and not body.get("logprobs"):
        return "'top_logprobs' needs 'logprobs': true"
    if field == "top_logprobs" and value > capabilities.max_top_logprobs:
        return f"{who} accepts 'top_logprobs' up to {capabilities.max_top_logprobs}"
    if field == "stream_options" and not body.get("stream"):
        return "'stream_options' needs 'stream': true"
    if field == "response_format":
        kind = str(value.get("type")) if isinstance(value, Mapping) else str(value)
        accepted = getattr(capabilities, _FORMATS.get(kind, "json_object"))
        return None if accepted else f"{who} does not accept 'response_format' of type '{kind}'"
    if field == "reasoning_effort" and value not in capabilities.reasoning_effort:
        levels = ", ".join(capabilities.reasoning_effort)
        return f"{who} does not accept '{field}' {value!r}" + (f", only {levels}" if levels else "")
    if field in _LIMITS and field != capabilities.token_limit and not capabilities.either_token_limit:
        return f"{who} takes '{capabilities.token_limit}' instead of '{field}'"
    if field == "max_tokens" and body.get("max_completion_tokens") is not None:
        return "'max_tokens' and 'max_completion_tokens' exclude each other"
    return None


def rejected_fields(capabilities: Capabilities, body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The fields of a wire body that such a deployment answers with HTTP 400, each with the reason."""
    found = ((field, _objection(capabilities, body, field)) for field in body if body[field] is not None)
    return [(field, reason) for field, reason in found if reason]


def apply(capabilities: Capabilities, wanted: dict[str, Any]) -> tuple[dict[str, Any], tuple[Dropped, ...]]:
    """The body that may be sent, and everything that differs from what was wanted (None is not wanted)."""
    body = {field: value for field, value in wanted.items() if value is not None}
    dropped = []
    limit, most = capabilities.token_limit, capabilities.max_top_logprobs
    if "max_completion_tokens" in body and "max_tokens" in body:
        dropped.append(Dropped("max_tokens", body.pop("max_tokens"), "'max_completion_tokens' is given too"))
    for other in _LIMITS:
        if other in body and other != limit:
            reason = f"{capabilities.model} on {capabilities.api_version} takes '{limit}'"
            body[limit] = body.pop(other)
            dropped.append(Dropped(other, body[limit], reason, {limit: body[limit]}))
    if body.get("logprobs") and most and body.get("top_logprobs", 0) > most:
        dropped.append(Dropped("top_logprobs", body["top_logprobs"], f"at most {most} are accepted", most))
        body["top_logprobs"] = most
    for field in sorted(body, key=("top_logprobs", "stream_options").__contains__):  # these need others: last
        reason = _objection(capabilities, body, field) or ""
        if reason:
            dropped.append(Dropped(field, body.pop(field), reason))
    return body, tuple(dropped)


@dataclass(frozen=True)
class Correction:
    """What an HTTP 400 taught: in `capabilities` these wire fields are off, or the token limit swapped."""

    field: str
    capabilities: Capabilities
    message: str


_NAMES = (*_GATES, *_LIMITS, *_FORMATS, "response_format", "reasoning_effort")
_REFUSAL = re.compile(
    r"n['o]t (support|permitted|allowed|available)|unsupported|unavailable|unrecognized|unexpected|"
    r"unknown.param|only for api versions|must be one of|supported values|less than or equal|"
    r"not of type 'integer'",
    re.IGNORECASE,
)
_OTHER_TROUBLE = re.compile(
    r"content.?(filter|management)|ResponsibleAI|context.?length|invalid.(json.)?schema|"
    r"too large|\bmessages\b",
    re.IGNORECASE,
)


def _refused(error: Mapping[str, Any], text: str) -> list[str]:
    """The fields a refusal is about: its `param`, else the names in its text that are meant as names."""
    param = re.split(r"[.\[]", str(error.get("param") or ""))[0]
    if param in _NAMES:
        return [param]
    text = re.split(r" Use '| Please contact", text)[0]
    named = set(re.findall(r"""['"`/>]\s?([a-z_]+)""", text))
    named.update(*(found.replace(",", " ").split() for found in re.findall(r"supplied:([\w, ]+)", text)))
    named.update(re.findall(r"\b(logprobs|[a-z]+(?:_[a-z]+)+)\b", text))
    if named & {*_FORMATS, "response_format"}:
        named = named - {*_FORMATS} | {"response_format"}
    return [name for name in _NAMES if name in named]


def _without(known: Capabilities, field: str, text: str) -> Capabilities:
    change: dict[str, Any]
    if field in _LIMITS:
        if field != known.token_limit or "token_limit" in known.corrected or "or equal" in text:
            return known
        other = _LIMITS[1 - _LIMITS.index(known.token_limit)]
        corrected = (*known.corrected, "token_limit")
        return replace(known, token_limit=other, either_token_limit=False, corrected=corrected)
    if field == "reasoning_effort":
        listed = re.findall(r"'([a-z]+)'", re.split("supported values", text, flags=re.IGNORECASE)[-1])
        rest = tuple(value for value in known.reasoning_effort if value in listed)
        change = {"reasoning_effort": rest if rest != known.reasoning_effort else ()}
    elif field == "top_logprobs" and (most := re.search(r"or equal to (\d+)", text)):
        change = {"max_top_logprobs": min(known.max_top_logprobs, int(most[1]))}
    elif field in _GATES:
        change = {_GATES[field]: False}
    else:
        schema = known.structured_outputs and not re.search(r"type ['\"]?json_object", text)
        change = {"structured_outputs" if schema else "json_object": False}
    better = replace(known, **change)
    return known if better == known else replace(better, corrected=(*known.corrected, field))


def correction(capabilities: Capabilities, status: int, error: Mapping[str, Any]) -> Correction | None:
    """What the `error` object of an HTTP 400 or 422 says about the table, or None if it says nothing new.

    Filtered content, a prompt too long or a bad schema say nothing about it. Every correction takes something
    away, or swaps the token limit once, so a request is mended a handful of times and never for ever.
    """
    message = error.get("message")
    text = message if isinstance(message, str) else json.dumps(message or dict(error), default=str)
    whole = " ".join(str(error.get(key, "")) for key in ("code", "param", "innererror")) + f" {text}"
    if status not in {400, 422} or not _REFUSAL.search(whole) or _OTHER_TROUBLE.search(whole):
        return None
    known, changed = capabilities, []
    for field in _refused(error, text):
        better = _without(known, field, text)
        if better != known:
            changed.append(field)
            known = better
    fields = ", ".join(changed)
    told = f"{known.model} on {known.api_version} refused {fields}: {text}"
    return Correction(fields, known, told) if changed else None


@dataclass(frozen=True)
class Requirement:
    """One `--require`: the run must not start unless the deployment takes this field (with this value)."""

    field: str
    value: str = ""


REQUIRABLE = ("temperature", "seed", "logprobs", "structured_outputs", "stream_options", "reasoning_effort")
_NUMBERS = {"temperature": float, "seed": int, "logprobs": int}


def parse_requirement(text: str) -> Requirement:
    """Read `temperature=0`, `seed`, `logprobs=5` (alternatives), `reasoning_effort=low` and the like."""
    field, equals, value = (part.strip() for part in text.partition("="))
    if field not in REQUIRABLE:
        raise ValueError(f"--require {text}: unknown field {field!r}; allowed are {', '.join(REQUIRABLE)}")
    try:
        if (equals and not value) or (value and field != "reasoning_effort" and _NUMBERS[field](value) < 0):
            raise ValueError(value)
    except (KeyError, ValueError):
        raise ValueError(f"--require {text}: {value!r} is no value of {field}") from None
    return Requirement(field, value)


def parse_requirements(texts: Iterable[str]) -> list[Requirement]:
    """Read what `--require` asks for.

    Raises:
        ConfigError: one is not understood.
    """
    try:
        return [parse_requirement(text) for text in texts]
    except ValueError as error:
        raise ConfigError(str(error), key="require") from error


def _meets(capabilities: Capabilities, field: str, value: str) -> bool:
    if field == "temperature" and value and float(value) == 1:
        return True  # the default, which every model has
    if field == "logprobs" and value:
        return capabilities.logprobs and int(value) <= capabilities.max_top_logprobs
    if field == "reasoning_effort" and value:
        return value in capabilities.reasoning_effort
    return bool(getattr(capabilities, field))


def unmet(capabilities: Capabilities, requirements: Iterable[Requirement]) -> list[str]:
    """What is required and not accepted, a message for each."""
    who, messages = f"{capabilities.model} on {capabilities.api_version}", []
    for field, value in ((requirement.field, requirement.value) for requirement in requirements):
        if not (capabilities.chat and _meets(capabilities, field, value)):
            wanted = f"{field}={value}" if value else field
            what = f"does not accept {wanted}" if capabilities.chat else "has no chat completions API"
            messages.append(f"{wanted} is required, but {who} {what}")
    return messages
