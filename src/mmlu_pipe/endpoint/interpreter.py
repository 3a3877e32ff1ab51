"""Guidance on a chat endpoint: the only file that knows guidance's internals.

guidance hands a program's constructs to an interpreter, node by node. A chat endpoint can answer a whole turn, but
not continue a grammar, so: what enumerates to literals is a `select`, what is free is a generation, and anything else
is refused with the construct's name and what to use instead.

An open assistant turn that already has text is sent as the last message, with the role assistant; the answer is
appended to it. So text before a `select` or `gen` is never dropped. A turn without text is no message.

A captured log_prob is the sum over the selects in it, from the endpoint's raw logprobs; it is None where a part was
generated without logprobs, as every `gen` is.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
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
    RuleRefNode,
    SelectNode,
    SubgrammarNode,
)
from guidance._schema import SamplingParams
from guidance.models import Model
from guidance.models._base import Interpreter, State
from guidance.trace import OutputAttr

from mmlu_pipe.endpoint.chat import ChatClient, FieldWithdrawn
from mmlu_pipe.endpoint.json_schema import strict_schema
from mmlu_pipe.endpoint.select import Question, Selector
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import EndpointError, ProgramError
from mmlu_pipe.records import JsonObject

__all__ = ["MAX_OPTIONS", "chat_model", "model_for_line"]

MAX_OPTIONS = 500
"""Options of one select; structured outputs allow no more enum values ("Expected at most 500 enum values")."""

_SAMPLING = SamplingParams(top_p=None, top_k=None, min_p=None, repetition_penalty=None)
_STEP = OutputAttr()  # one thing has been done; what it was is in the state
_ROLES = ("system", "user", "assistant")
_ADVICE = {
    "RegexNode": ("a regular expression (gen(regex=…), regex(…))", "select([...]) over the texts, or guidance.json"),
    "RepeatNode": ("an unbounded repetition (zero_or_more, one_or_more)", "gen(…) for free text, or guidance.json"),
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
    """A model that does no more at a step than the step: the rest feeds a notebook widget, and costs more than it.

    A copy does not know what it was copied from, so a conversation in the making does not keep all its beginnings.
    """

    __getattribute__ = object.__getattribute__  # guidance's own looks at every name for `engine`, which none is here

    def _update_trace_node(self, *_args: Any, **_keywords: Any) -> None: ...

    def _apply_node(self, node: ASTNode) -> Self:
        for _ in self._interpreter.run(node, sampling_params=self.sampling_params.copy()):
            self._send_to_event_queue()
        return self

    def copy(self) -> Self:
        interpreter: Any = self._interpreter
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new._interpreter = interpreter.__deepcopy__({})
        new._active_blocks = {**self._active_blocks}
        return new


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
        self._logprobs: tuple[float | None, ...] = ()  # of every answer so far

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.state = self.state.copy()
        return new

    def run(self, node: ASTNode, **kwargs: Any) -> Iterator[OutputAttr]:
        role = self.state.active_role
        if isinstance(node, RoleStart) and role is not None:
            raise ProgramError(f"`with {node.role}():` stands inside `with {role}():`; end the one before the other")
        if role is None and not isinstance(node, RoleStart):
            if isinstance(node, LiteralNode) and not node.value.strip():
                return iter(())
            raise ProgramError(
                f"{_shown(node)} stands outside of a role; put it in `with system():`, `with user():` or "
                "`with assistant():`"
            )
        if isinstance(node, RuleRefNode):
            raise _unsupported(node)
        return super().run(node, **kwargs)

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
        yield _STEP

    def join(self, node: JoinNode, **kwargs: Any) -> Iterator[OutputAttr]:
        for part in node.nodes:
            yield from self.run(part, **kwargs)

    def select(self, node: GrammarNode, **kwargs: Any) -> Iterator[OutputAttr]:
        yield from self._choose(_options(node), **kwargs)

    repeat = select

    def rule(self, node: RuleNode, **kwargs: Any) -> Iterator[OutputAttr]:
        if node.suffix is not None:
            raise ProgramError("gen(suffix=…) cannot work on a chat endpoint; add the text after the gen")
        if node.stop_capture is not None:
            raise ProgramError("gen(save_stop_text=…) cannot work on a chat endpoint; leave it out")
        if node.lazy:
            raise ProgramError("a lazy rule cannot work on a chat endpoint; use gen(stop='…')")
        if node.max_tokens is not None and isinstance(node.value, SubgrammarNode):
            raise ProgramError(
                "token_limit(…) over several parts cannot work on a chat endpoint; use gen(max_tokens=…)"
            )
        fields = dict(kwargs.get("fields") or {})
        if node.temperature is not None:
            fields["temperature"] = node.temperature
        if node.max_tokens is not None:
            fields["max_completion_tokens"] = node.max_tokens
        if node.stop is not None and node.stop != LiteralNode(""):
            if not isinstance(node.stop, LiteralNode):
                raise ProgramError(
                    "gen(stop=[…]) and gen(stop_regex=…) cannot work on a chat endpoint; use one text: gen(stop='…')"
                )
            fields["stop"] = [node.stop.value]
        kwargs["fields"] = fields
        if node.capture is None:
            yield from self.run(node.value, **kwargs)
            return
        start, asked = len(self.state.text), len(self._logprobs)
        yield from self.run(node.value, **kwargs)
        inside = self._logprobs[asked:]
        known = [logprob for logprob in inside if logprob is not None]
        log_prob = sum(known) if known and len(known) == len(inside) else None
        yield self.state.apply_capture(node.capture, self.state.text[start:], log_prob, node.list_append)

    def subgrammar(self, node: SubgrammarNode, **kwargs: Any) -> Iterator[OutputAttr]:
        if node.skip_regex is not None:
            raise _unsupported(node)
        yield from self.run(node.body, **kwargs)

    def regex(self, node: RegexNode, **kwargs: Any) -> Iterator[OutputAttr]:
        if node.regex is not None:
            raise _unsupported(node)
        yield self._answered(self._ask("gen(…)", kwargs), None)

    def json(self, node: JsonNode, **kwargs: Any) -> Iterator[OutputAttr]:
        need = "structured_outputs" if node.schema else "json_object"
        wanted: JsonObject = {"type": "json_object"}
        if node.schema:
            schema = {"name": "answer", "strict": True, "schema": strict_schema(node.schema)}
            wanted = {"type": "json_schema", "json_schema": schema}
        try:
            text = self._ask("guidance.json", kwargs, needs=(need,), response_format=wanted)
        except FieldWithdrawn as error:
            raise ProgramError(
                f"guidance.json cannot work here: {error}; use a newer aoai_api_version or model, or select([...])"
            ) from error
        try:
            json.loads(text)
        except ValueError as error:
            raise EndpointError(f"the answer to guidance.json is no JSON: {text[:200]!r}") from error
        yield self._answered(text, None)

    def grammar(self, node: Any, **_kwargs: Any) -> Iterator[OutputAttr]:
        raise _unsupported(node)

    image_blob = image_url = audio_blob = gen_audio = tool_call = grammar

    def _choose(self, options: list[str], **kwargs: Any) -> Iterator[OutputAttr]:
        if len(options) == 1:
            yield from self.text(LiteralNode(options[0]))
            return
        messages = self._conversation("select")
        fields = {name: value for name, value in self._fields(kwargs).items() if name in ("temperature", "top_p")}
        selection = self.selector.select(Question(self.client, self.session, messages, options, fields))
        yield self._answered(selection.value, selection.logprob)

    def _ask(self, construct: str, kwargs: dict[str, Any], **more: Any) -> str:
        fields = self._fields(kwargs)
        text = self.client.ask(self._conversation(construct), self.session, **(fields | more)).text
        for stop in fields.get("stop", ()):
            text = text.partition(stop)[0]  # a deployment that takes no `stop` is not sent it, and goes on
        return text

    def _answered(self, text: str, logprob: float | None) -> OutputAttr:
        self.state.text += text
        self._logprobs += (logprob,)
        return _STEP

    def _conversation(self, construct: str) -> list[JsonObject]:
        if self.state.active_role != "assistant":
            raise ProgramError(
                f"{construct} stands in the role {self.state.active_role!r}; a chat endpoint generates as the "
                "assistant only: put it in `with assistant():`"
            )
        messages = self.state.conversation()
        if not messages:
            raise ProgramError(f"{construct} comes before any message; begin with text in `with user():`")
        return messages

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
    found: dict[str, None] = {}
    for text in _texts(node):
        found[text] = None
        if len(found) > MAX_OPTIONS:
            raise ProgramError(f"this select has more than {MAX_OPTIONS} options; ask in two steps")
    return list(found)


def _texts(node: GrammarNode) -> Iterator[str]:
    if isinstance(node, LiteralNode):
        yield node.value
    elif isinstance(node, SelectNode):
        for alternative in node.alternatives:
            yield from _texts(alternative)
    elif isinstance(node, JoinNode):
        yield from _joined(_options(part) for part in node.nodes)
    elif isinstance(node, RepeatNode) and node.max is not None:
        once = _options(node.node)
        for times in range(node.min, node.max + 1):
            yield from _joined(itertools.repeat(once, times))
    elif isinstance(node, RuleNode) and node.capture is not None:
        raise ProgramError(
            f"{node.capture!r} is captured inside a select or a repetition, where a chat endpoint cannot tell it "
            "apart; name the select itself: select([...], name=…)"
        )
    elif isinstance(node, RuleNode):
        yield from _texts(node.value)
    elif isinstance(node, SubgrammarNode) and node.skip_regex is None:
        yield from _texts(node.body)
    else:
        raise _unsupported(node)


def _joined(parts: Iterable[list[str]]) -> Iterator[str]:
    return map("".join, itertools.product(*parts))


def _unsupported(node: object) -> ProgramError:
    construct, instead = _ADVICE.get(type(node).__name__, (type(node).__name__, "select([...]) or gen(…)"))
    if isinstance(node, RegexNode) and node.regex is None:
        construct, instead = "gen(…) inside a select or a repetition", "a gen(…) of its own, before or after"
    return ProgramError(f"{construct} cannot work on a chat endpoint; use {instead}")


def _shown(node: object) -> str:
    if isinstance(node, LiteralNode):
        return f"the text {node.value[:40]!r}"
    if isinstance(node, RuleNode):
        return f"the generation {node.capture or node.name!r}"
    if isinstance(node, JoinNode):
        return _shown(node.nodes[0])
    return _ADVICE.get(type(node).__name__, (type(node).__name__, ""))[0]
