"""`select` on a chat endpoint, which cannot be constrained token by token: three ways, by name.

They measure different things, so the one that was used is in every call record. Whichever it is, the value is exactly
one of the options, or the line fails with SelectFailed; nothing is ever guessed.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mmlu_pipe.endpoint.capabilities import Capabilities
from mmlu_pipe.endpoint.chat import Answer, ChatClient, FieldWithdrawn
from mmlu_pipe.endpoint.distribution import json_choice_distribution, text_distribution
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import ConfigError, EndpointRejected, SelectFailed, Truncated
from mmlu_pipe.plugins import hookimpl, registry
from mmlu_pipe.records import JsonObject

__all__ = ["AUTO_ORDER", "Question", "SelectStrategy", "Selection", "Selector", "match_option"]

AUTO_ORDER = ("json_schema", "logprob", "text")
"""`auto` takes the first that the deployment and the options allow; plugins' strategies are used by name only."""

TEXT_RULE = "text-v1"
"""Name and version of the matching rule of `text` (see match_option); a change of the rule changes the name."""

TEXT_REASKS = 2
TOP_LOGPROBS = 10
MAX_TOP_LOGPROBS = 20


@dataclass(frozen=True)
class Selection:
    """One option, and its log-probability among all continuations where the endpoint gives it."""

    value: str
    logprob: float | None


@dataclass(frozen=True)
class Question:
    """A `select` about to be asked: the conversation so far, the options, and how to ask."""

    chat: ChatClient
    session: LineSession
    messages: Sequence[JsonObject]
    options: Sequence[str]
    fields: JsonObject

    def ask(self, strategy: str, extra: Sequence[JsonObject] = (), **keywords: Any) -> Answer:
        """One call; `extra` messages follow the conversation, keywords go to ChatClient.ask."""
        return self.chat.ask(
            [*self.messages, *extra], self.session, strategy=strategy, **(dict(self.fields) | keywords)
        )


class SelectStrategy(Protocol):
    """One way to choose."""

    def available(self, capabilities: Capabilities, options: Sequence[str]) -> bool:
        """Whether `auto` may take it for these options."""

    def select(self, question: Question) -> Selection:
        """Choose one option.

        Raises:
            SelectFailed: the answer is none of the options.
        """


class Selector:
    """The strategy of a run: a named one, or `auto`.

    Raises:
        ConfigError: no strategy has that name.
    """

    def __init__(self, name: str) -> None:
        self._strategies: dict[str, SelectStrategy] = registry("select_strategies")
        if name != "auto" and name not in self._strategies:
            raise ConfigError(
                f"--select-strategy {name!r}: use one of auto, {', '.join(self._strategies)}", key="select_strategy"
            )
        self._name = name

    def select(self, question: Question) -> Selection:
        """Choose by the named strategy; `auto` moves on where the endpoint withdraws what a strategy needs.

        Raises:
            SelectFailed: the answer is none of the options.
            EndpointRejected: the named strategy does not work on this deployment.
        """
        selection = self._select(question)
        if selection.value not in question.options:
            raise _off_menu(question.options, str(selection.value))
        return selection

    def _select(self, question: Question) -> Selection:
        if self._name != "auto":
            try:
                return self._strategies[self._name].select(question)
            except FieldWithdrawn as error:
                raise EndpointRejected(
                    f"--select-strategy {self._name} does not work on this deployment ({error}); use auto or text",
                    status=400,
                    code=None,
                    stops_run=True,
                ) from error
        for name in AUTO_ORDER:
            strategy = self._strategies[name]
            if strategy.available(question.chat.capabilities, question.options):
                try:
                    return strategy.select(question)
                except FieldWithdrawn:
                    continue
        raise SelectFailed("no select strategy is left for this deployment", options=question.options, text="")


class JsonSchemaSelect:
    """Structured outputs with the options as an enum: the service itself keeps the answer to them."""

    key = "choice"

    def available(self, capabilities: Capabilities, options: Sequence[str]) -> bool:
        return capabilities.structured_outputs and not _no_enum_values(options)

    def select(self, question: Question) -> Selection:
        if bad := _no_enum_values(question.options):
            raise SelectFailed(
                f"structured outputs take no option with a double quote or a line break ({bad[0]!r}); use auto or text",
                options=question.options,
                text="",
            )
        schema = {
            "type": "object",
            "properties": {self.key: {"type": "string", "enum": list(question.options)}},
            "required": [self.key],
            "additionalProperties": False,
        }
        answer = question.ask(
            "json_schema",
            needs=("structured_outputs",),
            response_format={
                "type": "json_schema",
                "json_schema": {"name": self.key, "strict": True, "schema": schema},
            },
            logprobs=True,
            top_logprobs=TOP_LOGPROBS,
            read_distribution=lambda seen: json_choice_distribution(seen.tokens, question.options, self.key),
        )
        try:
            value = json.loads(answer.text)[self.key]
        except (ValueError, TypeError, KeyError):
            value = None
        if value not in question.options:
            raise _off_menu(question.options, answer.text)
        return _selection(str(value), answer.distribution)


class LogprobSelect:
    """One token is asked for; the most probable option among the returned alternatives is taken."""

    def available(self, capabilities: Capabilities, options: Sequence[str]) -> bool:
        return capabilities.logprobs and _one_token_tells(options)

    def select(self, question: Question) -> Selection:
        if not _one_token_tells(question.options):
            raise SelectFailed(
                "the strategy logprob needs options that differ in their first character; use json_schema or text",
                options=question.options,
                text="",
            )
        answer = question.ask(
            "logprob",
            needs=("logprobs",),
            length_is_fine=True,
            max_completion_tokens=1,
            logprobs=True,
            top_logprobs=MAX_TOP_LOGPROBS,
            read_distribution=lambda seen: text_distribution(seen.tokens[:1], question.options),
        )
        distribution = answer.distribution
        if not distribution:
            raise _off_menu(question.options, answer.text)
        said = answer.text.strip()
        best = max(distribution, key=lambda option: (distribution[option], option.strip() == said))
        return _selection(best, distribution)


class TextSelect:
    """Plain text, matched by a strict rule; an answer off the menu is asked again, a bounded number of times."""

    def available(self, capabilities: Capabilities, options: Sequence[str]) -> bool:
        return True

    def select(self, question: Question) -> Selection:
        menu = ", ".join(json.dumps(option, ensure_ascii=False) for option in question.options)
        extra: list[JsonObject] = []
        text = ""
        for _ in range(TEXT_REASKS + 1):
            try:
                answer = question.ask(
                    TEXT_RULE,
                    extra,
                    logprobs=True,
                    top_logprobs=TOP_LOGPROBS,
                    read_distribution=lambda seen: text_distribution(seen.tokens, question.options),
                )
                text = answer.text
                if (value := match_option(text, question.options)) is not None:
                    return _selection(value, answer.distribution)
            except Truncated:
                text = ""
            said = [{"role": "assistant", "content": text}] if text else []
            again = {"role": "user", "content": f"Reply with exactly one of these and nothing else: {menu}"}
            extra = [*extra, *said, again]
        raise _off_menu(question.options, text)


_PAIRS = (*map(tuple, ('""', "''", "``", "()", "[]", "“”", "‘’", "«»", "**")), ("**", "**"))


def match_option(text: str, options: Sequence[str]) -> str | None:
    """The option that a free text is, by the rule `text-v1`, or None.

    The text must be the option itself once Unicode is composed (NFC) and this is taken off: blanks around it, one
    pair of quotes, brackets, asterisks (single or double) or backticks around it, and one full stop at its end, within
    the pair or after it. Letter case counts. An option that the text is without taking anything off goes first; a
    text that fits two options fits none.
    """
    if text in options:
        return text
    whole = _composed(text)
    bare = {_without_stop(whole), *_unwrapped(_without_stop(whole))}
    bare |= {form for wrapped in _unwrapped(whole) for form in (wrapped, _without_stop(wrapped))}
    for forms in ({whole}, bare - {""}):
        found = [option for option in options if _composed(option) in forms]
        if found:
            return found[0] if len(found) == 1 else None
    return None


@hookimpl
def register_select_strategies(register: Any) -> None:
    """The strategies that come with the package."""
    register("json_schema", JsonSchemaSelect())
    register("logprob", LogprobSelect())
    register("text", TextSelect())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _without_stop(text: str) -> str:
    return text.removesuffix(".").rstrip()


def _unwrapped(text: str) -> list[str]:
    return [
        text[len(opening) : -len(closing)].strip()
        for opening, closing in _PAIRS
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing)
    ]


def _no_enum_values(options: Sequence[str]) -> list[str]:
    """The options that strict structured outputs refuse in an enum.

    https://community.openai.com/t/limitations-on-enum-values-in-structured-outputs/984464
    """
    return [option for option in options if any(character in option for character in '"\n\0')]


def _one_token_tells(options: Sequence[str]) -> bool:
    firsts = [option.strip()[:1] for option in options]
    return all(firsts) and len(set(firsts)) == len(firsts)


def _selection(value: str, distribution: Mapping[str, float] | None) -> Selection:
    probability = (distribution or {}).get(value, 0.0)
    return Selection(value, math.log(probability) if probability > 0 else None)


def _off_menu(options: Sequence[str], text: str) -> SelectFailed:
    shown = text if len(text) <= 200 else text[:200] + "…"
    return SelectFailed(f"the answer {shown!r} is none of {list(options)}", options=options, text=text)
