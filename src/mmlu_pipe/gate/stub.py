"""A model that knows nothing: it keeps to the form that is asked for, so that a program can be run without answers.

The requests are the real ones: the real client settles the fields, and the real strategy asks the selects. Only what
comes back is made up: the first option of a select, the first value of each part of a schema, and for free text what
the recorded model said at the same place in another line, or the word `text`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx2

from mmlu_pipe.endpoint.chat import ChatClient, Settled
from mmlu_pipe.endpoint.interpreter import chat_model
from mmlu_pipe.endpoint.select import Question, Selection, Selector
from mmlu_pipe.records import JsonObject

if TYPE_CHECKING:
    from guidance.models import Model

__all__ = ["SHORT_TEXT", "Stub", "instance"]

SHORT_TEXT = "text"
"""The free text where no recording tells of a better one."""

_MAX_DEPTH = 20


class Stub:
    """The stub under one dry run; not for use from several threads.

    Args:
        client: the client whose endpoint and capabilities decide what is asked.
        select_strategy: as in config.RunConfig.
        fields: fields of every request, in neutral names.
        texts: free texts by their place in a line: what is answered there.

    Attributes:
        model: the guidance model that it answers for.
    """

    def __init__(self, client: ChatClient, select_strategy: str, fields: JsonObject, texts: Sequence[str]) -> None:
        self._texts = texts
        self._given = 0
        self._options: Sequence[str] | None = None
        settled = Settled(client.capabilities)
        asking = ChatClient(client.endpoint, self.post, settled, defaults=fields, auth_shown="none (a stub)")
        self.model: Model = chat_model(asking, _Selecting(select_strategy, self))

    def begin_line(self) -> None:
        """Answer the next line's first call as a first call."""
        self._given = 0

    def post(self, body: JsonObject) -> httpx2.Response:
        """Answer one chat completions body by its form alone."""
        content = self._content(body)
        self._given += 1
        logprobs = None
        if body.get("logprobs"):
            logprobs = {"content": [{"token": content, "logprob": 0.0, "top_logprobs": []}]}
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}
        return httpx2.Response(200, json={"object": "chat.completion", "model": "stub", "choices": [choice]})

    def _content(self, body: JsonObject) -> str:
        wanted = body.get("response_format") or {}
        if wanted.get("type") == "json_schema":
            return json.dumps(instance(wanted["json_schema"]["schema"]), ensure_ascii=False)
        if wanted.get("type") == "json_object":
            return "{}"
        if self._options is not None:
            return self._options[0]
        return self._texts[min(self._given, len(self._texts) - 1)] if self._texts else SHORT_TEXT

    def select(self, selector: Selector, question: Question) -> Selection:
        """Let a selector choose, while its options are known to the answers."""
        self._options = question.options
        try:
            return Selector.select(selector, question)
        finally:
            self._options = None


class _Selecting(Selector):
    def __init__(self, name: str, stub: Stub) -> None:
        super().__init__(name)
        self._stub = stub

    def select(self, question: Question) -> Selection:
        return self._stub.select(self, question)


def instance(schema: Any) -> Any:
    """The first value that fits a JSON schema, as far as structured outputs know schemas."""
    return _instance(schema, schema, 0)


def _instance(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        return _instance(_referred(root, reference), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _instance(schema[name][0], root, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        parts = schema.get("properties") or {}
        return {name: _instance(part, root, depth + 1) for name, part in parts.items()}
    if kind == "array":
        return [_instance(schema.get("items"), root, depth + 1)] * min(int(schema.get("minItems") or 0), 100)
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    return {"boolean": False, "string": SHORT_TEXT}.get(str(kind))


def _referred(root: Any, reference: str) -> Any:
    """The part of a schema that a reference such as `#/$defs/step` names."""
    found = root
    for name in reference.removeprefix("#").split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
