"""One chat completion as the engine sees it: what is asked, what comes back piece by piece, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Cancelled", "ChatRequest", "Ending", "Engine", "Json", "Piece"]

Json = dict[str, Any]


@dataclass(frozen=True)
class ChatRequest:
    """A checked request, its defaults filled in.

    Attributes:
        messages: role and text of each.
        max_tokens: the answer's longest length.
        temperature: 0 takes the most probable token every time.
        top_p: share of the probability that is sampled from.
        presence_penalty: as the API has it.
        frequency_penalty: as the API has it.
        seed: of the sampling; None draws one.
        stop: texts that end the answer.
        top_logprobs: alternatives to tell for each token; None tells no logprobs at all.
        schema: JSON schema that the answer must follow; None leaves it free.
        stream: whether the answer is sent as it comes.
        include_usage: whether a stream ends with the token counts.
    """

    messages: tuple[Json, ...]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    schema: Json | None = None
    stream: bool = False
    include_usage: bool = False


@dataclass(frozen=True)
class Piece:
    """A part of the answer's text, and its tokens with their logprobs where those were asked for."""

    text: str
    tokens: tuple[Json, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How an answer ended: `stop` or `length`, and what it took; `reused` prompt tokens were not computed again."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reused: int = 0


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


class Engine(Protocol):
    """What answers."""

    def chat(self, request: ChatRequest, emit: Callable[[Piece], None], cancelled: Callable[[], bool]) -> Ending:
        """Answer, handing every piece to `emit` in this thread; `cancelled` is looked at between tokens and in a queue.

        Raises:
            Refusal: the request cannot be answered, before anything was emitted; see wire.py.
            Cancelled: `cancelled` said so.
        """
