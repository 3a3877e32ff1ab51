"""Guidance on a chat endpoint: the only file that knows guidance's internals.

guidance hands a program's constructs to an interpreter, node by node. A chat endpoint can answer a whole turn, but
not continue a grammar, so: what enumerates to literals is a `select`, what is free is a generation, and anything else
is refused with the construct's name and what to use instead.

An open assistant turn that already has text is sent as the last message, with the role assistant; the answer is
appended to it. So text before a `select` or `gen` is never dropped.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, Self

from guidance._ast import (
    ASTNode,
    GrammarNode,
    JoinNode,
    JsonNode,
    LiteralNode,
    RegexNode,
    RepeatNode,
    RoleEnd,
    RoleStart,
    RuleNode,
    SelectNode,
    SubgrammarNode,
)
from guidance._schema import SamplingParams
from guidance.models import Model
from guidance.models._base import Interpreter, State
from guidance.trace import OutputAttr, TextOutput

from mmlu_pipe.endpoint.chat import ChatClient
from mmlu_pipe.endpoint.select import Question, Selector
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import EndpointError, ProgramError
from mmlu_pipe.records import JsonObject

__all__ = ["MAX_OPTIONS", "chat_model", "model_for_line"]

MAX_OPTIONS = 500
"""Options of one select; structured outputs allow no more enum values."""

_SAMPLING = SamplingParams(top_p=None, top_k=None, min_p=None, repetition_penalty=None)
_ROLES = ("system", "user", "assistant")
_ADVICE = {
    "RegexNode": ("gen(regex=…)", "select([...]) over the possible texts, or guidance.json"),
    "RepeatNode": ("a repetition", "gen(…) for free text, or guidance.json"),
    "SubstringNode": ("substring(…)", "select([...]) over the possible texts"),
    "LarkNode": ("lark(…)", "guidance.json, or select([...])"),
    "SubgrammarNode": ("subgrammar(…)", "guidance.json, or select([...])"),
    "SpecialToken": ("special_token(…)", "the role blocks system(), user(), assistant()"),
    "RuleRefNode": ("a recursive grammar", "guidance.json"),
    "ToolCallNode": ("gen(tools=…)", "calling the function in the program itself"),
    "ImageBlob": ("image(…)", "text"),
    "ImageUrl": ("image(…)", "text"),
    "AudioBlob": ("audio(…)", "text"),
    "GenAudio": ("gen_audio(…)", "gen(…)"),
}


def chat_model(client: ChatClient, selector: Selector) -> Model:
    """A guidance model over the client; lines work on copies of it (model_for_line)."""
    interpreter = _ChatInterpreter(client, selector, LineSession(line_number=0))
    return _ChatModel(interpreter=interpreter, sampling_params=_SAMPLING, echo=False)


def model_for_line(model: Model, session: LineSession) -> Model:
    """A fresh copy of `model` whose calls are recorded in `session`; models of other kinds are copied as they are."""
    copy = model.copy()
    interpreter = copy._interpreter
    if isinstance(interpreter, _ChatInterpreter):
        interpreter.session = session
    return copy


class _ChatModel(Model):
    """A model without trace nodes: they feed a notebook widget, and cost more than the rest of a step."""

    def _update_trace_node(self, *_args: Any, **_keywords: Any) -> None: ...


class _ChatState(State):
    """The conversation: closed messages, and the text of the turn that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[JsonObject] = []
        self.text = ""

    def copy(self) -> _ChatState:
        new = object.__new__(_ChatState)
        new.__dict__.update(self.__dict__)
        new.messages = list(self.messages)
        new.captures = {
            name: list(value) if isinstance(value, list) else value for name, value in self.captures.items()
        }
        return new

    def conversation(self) -> list[JsonObject]:
        """The messages to send: the closed ones, and the open turn where it has text."""
        if not self.text:
            return list(self.messages)
        return [*self.messages, {"role": self.active_role, "content": self.text}]

    def __str__(self) -> str:
        closed = "".join(f"<|{message['role']}|>\n{message['content']}\n" for message in self.messages)
        return closed if self.active_role is None else f"{closed}<|{self.active_role}|>\n{self.text}"


class _ChatInterpreter(Interpreter[_ChatState]):
    def __init__(self, client: ChatClient, selector: Selector, session: LineSession) -> None:
        super().__init__(_ChatState())
        self.client = client
        self.selector = selector
        self.session = session
        self._logprob: float | None = None

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.state = self.state.copy()
        return new

    def run(self, node: ASTNode, **kwargs: Any) -> Iterator[OutputAttr]:
        if self.state.active_role is None and not isinstance(node, RoleStart):
            if isinstance(node, LiteralNode) and not node.value.strip():
                return
            raise ProgramError(
                f"{_shown(node)} stands outside of a role; put it in `with system():`, `with user():` or "
                "`with assistant():`"
            )
        yield from super().run(node, **kwargs)

    def role_start(self, node: RoleStart, **_kwargs: Any) -> Iterator[OutputAttr]:
        if node.role not in _ROLES:
            raise ProgramError(f"the role {node.role!r} is not one of {', '.join(_ROLES)}")
        self.state.active_role = node.role
        yield from ()

    def role_end(self, node: RoleEnd, **_kwargs: Any) -> Iterator[OutputAttr]:
        if self.state.text:
            self.state.messages.append({"role": self.state.active_role, "content": self.state.text})
        self.state.text = ""
        self.state.active_role = None
        yield from ()

    def text(self, node: LiteralNode, **_kwargs: Any) -> Iterator[OutputAttr]:
        self.state.text += node.value
        yield TextOutput(value=node.value, is_input=True)

    def join(self, node: JoinNode, **kwargs: Any) -> Iterator[OutputAttr]:
        for part in node.nodes:
            yield from self.run(part, **kwargs)

    def select(self, node: SelectNode, **kwargs: Any) -> Iterator[OutputAttr]:
        yield from self._choose(_options(node), **kwargs)

    def repeat(self, node: RepeatNode, **kwargs: Any) -> Iterator[OutputAttr]:
        yield from self._choose(_options(node), **kwargs)

    def rule(self, node: RuleNode, **kwargs: Any) -> Iterator[OutputAttr]:
        if node.suffix is not None:
            raise ProgramError("gen(suffix=…) cannot work on a chat endpoint; add the text after the gen")
        if node.stop_capture is not None:
            raise ProgramError("gen(save_stop_text=…) cannot work on a chat endpoint; leave it out")
        if node.lazy:
            raise ProgramError("a lazy rule (gen(stop_regex=…)) cannot work on a chat endpoint; use gen(stop='…')")
        fields = dict(kwargs.get("fields") or {})
        if node.temperature is not None:
            fields["temperature"] = node.temperature
        if node.max_tokens is not None:
            fields["max_completion_tokens"] = node.max_tokens
        if node.stop is not None:
            if not isinstance(node.stop, LiteralNode):
                raise ProgramError("gen(stop=[…]) and gen(stop_regex=…) cannot work here; use one text: gen(stop='…')")
            fields["stop"] = [node.stop.value]
        if node.capture is None:
            yield from self.run(node.value, **kwargs | {"fields": fields})
            return
        start = len(self.state.text)
        self._logprob = None
        yield from self.run(node.value, **kwargs | {"fields": fields})
        yield self.state.apply_capture(node.capture, self.state.text[start:], self._logprob, node.list_append)

    def regex(self, node: RegexNode, **kwargs: Any) -> Iterator[OutputAttr]:
        if node.regex is not None:
            raise _unsupported(node)
        yield from self._generate("gen(…)", **kwargs)

    def json(self, node: JsonNode, **kwargs: Any) -> Iterator[OutputAttr]:
        capabilities = self.client.capabilities
        if not (capabilities.structured_outputs if node.schema else capabilities.json_object):
            raise ProgramError(
                f"guidance.json needs structured outputs, which {capabilities.model} on "
                f"{capabilities.api_version} does not have; use a newer aoai_api_version or model, or select([...])"
            )
        schema: JsonObject = {"name": "answer", "strict": True, "schema": node.schema}
        response_format = {"type": "json_schema", "json_schema": schema} if node.schema else {"type": "json_object"}
        for output in self._generate("guidance.json", response_format=response_format, **kwargs):
            try:
                json.loads(output.value)
            except ValueError as error:
                raise EndpointError(f"the answer to guidance.json is no JSON: {output.value[:200]!r}") from error
            yield output

    def grammar(self, node: GrammarNode, **_kwargs: Any) -> Iterator[OutputAttr]:
        raise _unsupported(node)

    def image_blob(self, node: Any, **_kwargs: Any) -> Iterator[OutputAttr]:
        raise _unsupported(node)

    def image_url(self, node: Any, **_kwargs: Any) -> Iterator[OutputAttr]:
        raise _unsupported(node)

    def audio_blob(self, node: Any, **_kwargs: Any) -> Iterator[OutputAttr]:
        raise _unsupported(node)

    def gen_audio(self, node: Any, **_kwargs: Any) -> Iterator[OutputAttr]:
        raise _unsupported(node)

    def tool_call(self, node: Any, **_kwargs: Any) -> Iterator[OutputAttr]:
        raise _unsupported(node)

    def _choose(self, options: list[str], **kwargs: Any) -> Iterator[OutputAttr]:
        self._assistant_only("select")
        fields = {name: value for name, value in self._fields(kwargs).items() if name == "temperature"}
        question = Question(self.client, self.session, self.state.conversation(), options, fields)
        selection = self.selector.select(question)
        self._logprob = selection.logprob
        self.state.text += selection.value
        yield TextOutput(value=selection.value, is_generated=True)

    def _generate(self, construct: str, **kwargs: Any) -> Iterator[TextOutput]:
        self._assistant_only(construct)
        response_format = kwargs.pop("response_format", None)
        fields = self._fields(kwargs) | ({"response_format": response_format} if response_format else {})
        answer = self.client.ask(self.state.conversation(), self.session, **fields)
        self.state.text += answer.text
        yield TextOutput(value=answer.text, is_generated=True)

    def _assistant_only(self, construct: str) -> None:
        if self.state.active_role != "assistant":
            raise ProgramError(
                f"{construct} stands in the role {self.state.active_role!r}; a chat endpoint generates as the "
                "assistant only: put it in `with assistant():`"
            )

    @staticmethod
    def _fields(kwargs: dict[str, Any]) -> JsonObject:
        """Request fields from the construct's own parameters and the model's sampling parameters."""
        sampling = kwargs.get("sampling_params") or {}
        for name in ("top_k", "min_p", "repetition_penalty"):
            if sampling.get(name) is not None:
                raise ProgramError(f"the sampling parameter {name} does not exist on a chat endpoint; leave it out")
        top_p = sampling.get("top_p")
        return ({"top_p": top_p} if top_p is not None else {}) | dict(kwargs.get("fields") or {})


def _options(node: GrammarNode) -> list[str]:
    """The texts a grammar enumerates to, each once, in order.

    Raises:
        ProgramError: it does not, or to too many.
    """
    found = list(dict.fromkeys(itertools.islice(_texts(node), MAX_OPTIONS + 1)))
    if len(found) > MAX_OPTIONS:
        raise ProgramError(f"this select has more than {MAX_OPTIONS} options; ask in two steps")
    return found


def _texts(node: GrammarNode) -> Iterator[str]:
    if isinstance(node, LiteralNode):
        yield node.value
    elif isinstance(node, SelectNode):
        for alternative in node.alternatives:
            yield from _texts(alternative)
    elif isinstance(node, JoinNode):
        for parts in itertools.product(*(_options(part) for part in node.nodes)):
            yield "".join(parts)
    elif isinstance(node, RepeatNode) and node.max is not None:
        once = _options(node.node)
        for times in range(node.min, node.max + 1):
            for parts in itertools.product(once, repeat=times):
                yield "".join(parts)
    elif isinstance(node, RuleNode) and isinstance(node.value, SubgrammarNode):
        yield from _texts(node.value.body)
    elif isinstance(node, RuleNode):
        if node.capture is not None:
            raise ProgramError(
                f"the option {node.capture!r} of a select captures its own text, which a chat endpoint cannot tell "
                "apart; name the select itself: select([...], name=…)"
            )
        yield from _texts(node.value)
    else:
        raise _unsupported(node, " inside select")


def _unsupported(node: object, where: str = "") -> ProgramError:
    construct, instead = _ADVICE.get(type(node).__name__, (type(node).__name__, "select([...]) or gen(…)"))
    return ProgramError(f"{construct}{where} cannot work on a chat endpoint; use {instead}")


def _shown(node: object) -> str:
    if isinstance(node, LiteralNode):
        return f"the text {node.value[:40]!r}"
    if isinstance(node, RuleNode):
        return f"the generation {node.capture or node.name!r}"
    return _ADVICE.get(type(node).__name__, (type(node).__name__, ""))[0]
