"""llama.cpp, in this process, as the engine; its package is loaded when the model is."""

from __future__ import annotations

import importlib
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.serve.chat import Cancelled, ChatRequest, Ending, Json, Piece
from mmlu_pipe.serve.grammar import Grammar
from mmlu_pipe.serve.wire import invalid, server_error, too_long

__all__ = ["CONTEXT", "LlamaEngine", "default_threads", "require_llama"]

CONTEXT = 8192
"""Tokens that a prompt and its answer have room for, unless the model was made for fewer."""

_QUEUE_LOOK_S = 0.25
_LAST_SEED = 2**32 - 1  # which llama.cpp takes for "draw one"
_ERRORS_ONLY = 1


def require_llama() -> Any:
    """The package xllamacpp.

    Raises:
        ConfigError: it, or llguidance, is not installed.
    """
    try:
        importlib.import_module("llguidance")
        return importlib.import_module("xllamacpp")
    except ImportError as error:
        raise ConfigError(
            f'mmlu-pipe serve needs llama.cpp ({error}): pip install "xllamacpp>=2026.10" "llguidance>=1.5"'
        ) from error


def default_threads() -> int:
    """Half of the processors that this process may use, which spares hyper-threads; both of two.

    Threads wait for each other at every step by spinning, so more of them than processors are slower than fewer.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, max(2, usable // 2))


class LlamaEngine:
    """A loaded model.

    Equal requests with temperature 0 or a seed get equal answers: one is answered at a time, and nothing of one prompt
    is reused for the next. With `parallel` above 1 they share the processor, with `reuse_prompts` an answer follows
    numbers that came of other batches; in both cases rounding may tell equal requests apart.

    Args:
        path: the GGUF file.
        threads: of the processor; None takes `default_threads`.
        context: the most tokens of a prompt and its answer together.
        parallel: answers in the making at once.
        reuse_prompts: whether what a prompt begins with is not computed again if the one before began so too.

    Raises:
        ConfigError: llama.cpp is not installed, or cannot load the file.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        context: int = CONTEXT,
        parallel: int = 1,
        reuse_prompts: bool = False,
    ) -> None:
        llama = require_llama()
        wanted = llama.CommonParams()
        wanted.model.path = str(path)
        wanted.n_ctx = context * parallel
        wanted.n_parallel = parallel
        for cpu in (wanted.cpuparams, wanted.cpuparams_batch):
            cpu.poll = 0  # do not burn a processor while waiting for work
            cpu.n_threads = threads or default_threads()
        wanted.verbosity = _ERRORS_ONLY
        wanted.warmup = False
        wanted.cache_ram_mib = 0
        wanted.prefill_assistant = False  # the API begins a new message after an assistant's
        wanted.force_pure_content_parser = True  # the text as the model gave it
        wanted.reasoning_format = llama.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
        # llama.cpp brings a listener of its own, on loopback; nobody is given its key.
        wanted.api_keys = [secrets.token_urlsafe(32)]
        wanted.ui = False
        wanted.endpoint_slots = False
        try:
            with _signals_as_before():
                self._server = llama.Server(wanted)
            # llama.cpp's loop may not run yet, and one that is told to end before it runs never ends.
            self._server.handle_completions({"prompt": "a", "max_tokens": 1})
        except RuntimeError as error:
            raise ConfigError(
                f"{path}: llama.cpp cannot load it, for the reason that it wrote above; it must be the whole GGUF file "
                "of a chat model that this version knows, and fit into memory",
                path=path,
                key="model_file",
            ) from error
        self._slots = threading.BoundedSemaphore(parallel)
        self._reuse_prompts = reuse_prompts

    def chat(self, request: ChatRequest, emit: Callable[[Piece], None], cancelled: Callable[[], bool]) -> Ending:
        """Answer; see `chat.Engine`."""
        grammar = None if request.schema is None else Grammar(request.schema)
        while not self._slots.acquire(timeout=_QUEUE_LOOK_S):
            if cancelled():
                raise Cancelled
        try:
            if cancelled():
                raise Cancelled
            listener = _Listener(grammar, emit, cancelled)
            try:
                body = _body(request, grammar) | {"cache_prompt": self._reuse_prompts}
                self._server.handle_chat_completions(body, listener)
            except (ValueError, RuntimeError) as error:  # what it raises before it generates: the template's refusals
                raise invalid(f"The messages do not fit the model's chat template: {error}", "messages") from error
            return listener.ending(request)
        finally:
            self._slots.release()


@contextmanager
def _signals_as_before() -> Iterator[None]:
    """llama.cpp takes Ctrl-C and SIGTERM for itself when it has loaded a model; they belong to the program."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python


def _body(request: ChatRequest, grammar: Grammar | None) -> Json:
    """The request in llama.cpp's words: samplers of its own are off, so that the distribution is the model's."""
    body: Json = {
        "messages": list(request.messages),
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "stop": list(request.stop),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.seed is not None:
        body["seed"] = request.seed % _LAST_SEED
    if request.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": max(1, request.top_logprobs)}  # with 0 it tells no token's at all
    if grammar is not None:
        body["grammar"] = grammar.text
    return body


class _Listener:
    """Called with every chunk of llama.cpp's stream; returning True ends the generation."""

    def __init__(self, grammar: Grammar | None, emit: Callable[[Piece], None], cancelled: Callable[[], bool]) -> None:
        self._grammar = grammar
        self._emit = emit
        self._cancelled = cancelled
        self._failure: BaseException | None = None
        self._finish_reason: str | None = None
        self._usage: Json = {}

    def __call__(self, chunk: Json) -> bool:
        try:
            if self._cancelled():
                raise Cancelled
            self._take(chunk)
        except BaseException as failure:  # noqa: BLE001 - no exception crosses llama.cpp; ending() raises it again
            self._failure = failure
            return True
        return False

    def ending(self, request: ChatRequest) -> Ending:
        """How it ended, once llama.cpp has returned.

        Raises:
            Refusal, Cancelled, or what `emit` raised: it did not end well.
        """
        if self._failure is not None:
            raise self._failure
        if self._finish_reason is None:
            raise server_error("The model ended without a reason.")
        ended = self._finish_reason == "stop" and not request.stop
        if ended and self._grammar is not None and not self._grammar.complete:
            raise server_error("The model ended before the answer followed the schema.")
        prompt, completion = self._usage["prompt_tokens"], self._usage["completion_tokens"]
        reused = (self._usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return Ending(self._finish_reason, prompt, completion, reused)

    def _take(self, chunk: Json) -> None:
        if error := chunk.get("error"):
            if error.get("type") == "exceed_context_size_error":
                raise too_long(error.get("n_prompt_tokens"), error.get("n_ctx"))
            told = str(error.get("message"))
            raise invalid(told) if error.get("code") == 400 else server_error(told)
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk["choices"]:
            text = choice["delta"].get("content") or ""
            tokens = (choice.get("logprobs") or {}).get("content") or []
            if self._grammar is not None and not self._grammar.follow(text):
                raise server_error("The model's answer left the schema; llama.cpp did not enforce the grammar.")
            if text or tokens:
                self._emit(Piece(text, tuple(tokens)))
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
