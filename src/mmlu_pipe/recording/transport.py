"""Record and replay in the transport under the one client; nothing is patched."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field

import httpx2

from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording.cassette import Cassette, Exchange, Key
from mmlu_pipe.recording.scrub import (
    deployment_of,
    refuse_secrets,
    scrub_request_body,
    scrub_response_body,
    scrub_uri,
)

__all__ = ["TapeDeck"]


@dataclass
class _Call:
    """One call of one line, between its first attempt and its end."""

    deck: TapeDeck
    key: Key
    shard: str
    line_number: int
    exchange: Exchange | None = None

    def keep(self) -> None:
        if self.exchange is not None:
            self.deck.cassette.keep(self.key, self.shard, self.line_number, self.exchange)


@dataclass
class _Turn:
    """Who may ask a request; gone when nobody wants it."""

    wanted: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_current: ContextVar[_Call | None] = ContextVar("mmlu_pipe_current_call", default=None)


class TapeDeck(httpx2.BaseTransport):
    """A transport that plays recordings, and records what it has to ask for.

    Args:
        cassette: the recordings.
        model: declared model, written in place of a deployment's name.
        live: the transport to the endpoint; None never opens a socket, and a request without a recording is an error.
        secrets: texts that must never be recorded.
    """

    def __init__(
        self,
        cassette: Cassette,
        model: str,
        live: httpx2.BaseTransport | None = None,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.cassette = cassette
        self._model = model
        self._live = live
        self._secrets = secrets
        self._guard = threading.Lock()
        self._turns: dict[Key, _Turn] = {}

    @property
    def replays(self) -> bool:
        """Whether answers come from recordings alone."""
        return self._live is None

    @contextmanager
    def call(self, identity: str, occurrence: int, shard: str, line_number: int) -> Iterator[_Call]:
        """While recording, calls of equal requests take turns: one answer is recorded, and all of them get it."""
        key = (identity, occurrence)
        with nullcontext() if self.replays else self._turn(key):
            token = _current.set(found := _Call(self, key, shard, line_number))
            try:
                yield found
            finally:
                _current.reset(token)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer from the cassette, else from the endpoint, holding the exchange until the call keeps it.

        Raises:
            CassetteMiss: there is no recording and no live transport.
            SecretInCassette: the exchange holds a credential; a request that does is not even sent.
        """
        call = _current.get()
        if call is None:
            raise RecordingError("a request was made outside of a recorded call")
        found = self.cassette.find(call.key, call.line_number)
        if found is not None:
            return httpx2.Response(
                found.status, headers={"content-type": found.content_type}, content=found.response_body.encode()
            )
        body = json.loads(request.read())
        if self._live is None:
            raise self.cassette.miss(body, self._model)
        request_text = scrub_request_body(body, self._model)
        refuse_secrets(request_text, self._secrets(), f"line {call.line_number}, request")
        response = self._live.handle_request(request)
        uri = str(request.url)
        response_text = scrub_response_body(
            response.read().decode("utf-8", "replace"), deployment_of(uri, body, self._model)
        )
        refuse_secrets(response_text, self._secrets(), f"line {call.line_number}, response")
        call.exchange = Exchange(
            uri=scrub_uri(uri),
            request_body=request_text,
            status=response.status_code,
            reason=response.reason_phrase,
            content_type=response.headers.get("content-type", "application/json"),
            response_body=response_text,
        )
        return response

    def close(self) -> None:
        """Close the live transport; the cassette is finished by its owner."""
        if self._live is not None:
            self._live.close()

    @contextmanager
    def _turn(self, key: Key) -> Iterator[None]:
        with self._guard:
            turn = self._turns.setdefault(key, _Turn())
            turn.wanted += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._guard:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[key]
