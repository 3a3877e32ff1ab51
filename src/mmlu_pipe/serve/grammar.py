"""A JSON schema as the grammar that llama.cpp samples under, and a second pair of eyes on the answer.

llama.cpp goes on without any grammar where it cannot use the one it was given. So the same grammar is compiled here
first, which words the refusal, and the answer is followed through it before a byte of it is sent.
"""

from __future__ import annotations

import importlib
import json
from functools import cache
from typing import Any

from mmlu_pipe.serve.chat import Json
from mmlu_pipe.serve.wire import invalid

__all__ = ["Grammar"]

# A small model would fill a place for blanks with blanks; and one spelling for one value keeps recordings apart.
_SPELLING = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


class Grammar:
    """The grammar of one answer.

    Attributes:
        text: what llama.cpp is given.

    Raises:
        Refusal: the schema means nothing, or cannot be enforced.
    """

    def __init__(self, schema: Json) -> None:
        spelt = json.dumps(schema | {"x-guidance": _SPELLING})
        self.text = f"%llguidance {{}}\nstart: %json {spelt}"
        self._matcher = importlib.import_module("llguidance").LLMatcher(_bytes_as_tokens(), self.text, log_level=0)
        if problem := self._matcher.get_error():
            reason = problem.strip().splitlines()[0].rpartition("failed to compile JSON schema: ")[2]
            raise invalid(f"Invalid schema for response_format: {reason}", "response_format")

    def follow(self, text: str) -> bool:
        """Whether the answer may go on with this text; from then on it did."""
        return not text or bool(self._matcher.consume_tokens(list(text.encode("utf-8", "replace"))))

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())


@cache
def _bytes_as_tokens() -> Any:
    """A tokenizer whose tokens are the bytes: any model's answer can be followed with it."""
    return importlib.import_module("llguidance").LLTokenizer("byte")
