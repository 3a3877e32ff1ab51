"""One model call: settle the fields, send, wait and ask again, judge the answer, keep the record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmlu_pipe.endpoint.address import is_v1
from mmlu_pipe.endpoint.capabilities import Capabilities, Correction, Requirement, apply, unmet
from mmlu_pipe.endpoint.client import Post
from mmlu_pipe.endpoint.exchange import Exchange
from mmlu_pipe.endpoint.limiter import Limiter
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.endpoint.wire import Completion, judge
from mmlu_pipe.errors import EndpointError, MmluPipeError, RequirementUnmet
from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.recording.tape import NO_TAPE, Tape
from mmlu_pipe.records import Call, Endpoint, JsonObject

__all__ = ["Answer", "ChatClient", "FieldWithdrawn", "Settled"]


class FieldWithdrawn(EndpointError):
    """The deployment lacks what this call cannot do without; another way must be found."""

    kind = "rejected"


@dataclass(frozen=True)
class Answer:
    """A good answer: its text, the completion that it came in, and the choice distribution read from it."""

    text: str
    completion: Completion
    distribution: Mapping[str, float] | None


class Settled:
    """The capabilities of one run, corrected by the endpoint itself; safe to share between threads."""

    def __init__(
        self,
        capabilities: Capabilities,
        requirements: Sequence[Requirement] = (),
        notice: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self._lock = threading.Lock()
        self._requirements = tuple(requirements)
        self._notice = notice
        self._noticed: set[str] = set()
        self.capabilities = capabilities
        self.corrections: list[str] = []
        self._check()

    def fit(self, wanted: JsonObject) -> JsonObject:
        """The body that may be sent; what is dropped or changed is noticed once a run.

        Raises:
            RequirementUnmet: the endpoint has withdrawn a field that `--require` names.
        """
        self._check()
        body, dropped = apply(self.capabilities, wanted)
        for field in dropped:
            message = str(field)
            with self._lock:
                fresh = message not in self._noticed
                self._noticed.add(message)
            if fresh:
                self._notice(message)
        return body

    def correct(self, found: Correction, sent_under: Capabilities) -> None:
        """Take the endpoint's word; a correction that another thread made first is left as it is."""
        with self._lock:
            if self.capabilities is not sent_under:
                return
            self.capabilities = found.capabilities
            self.corrections.append(found.message)
        self._notice(f"corrected by the endpoint: {found.message}")

    def notes(self) -> list[str]:
        """Every drop and correction so far, in a stable order."""
        with self._lock:
            return sorted(self._noticed) + self.corrections

    def _check(self) -> None:
        missing = unmet(self.capabilities, self._requirements)
        if missing:
            raise RequirementUnmet("\n".join(missing))


class ChatClient:
    """Asks one deployment; shared by all worker threads.

    Args:
        endpoint: the deployment; its model is part of every request's identity.
        post: sends one body (endpoint/client.py).
        settled: what may be sent.
        tape: where answers are played from or recorded to.
        defaults: fields of every request, in neutral names.
        limiter: gives leave for each attempt; None where nothing is asked again, as in replay.
        auth_shown: which credential is used, for messages.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        post: Post,
        settled: Settled,
        *,
        tape: Tape = NO_TAPE,
        defaults: JsonObject | None = None,
        limiter: Limiter | None = None,
        auth_shown: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.settled = settled
        self._tape = tape
        self._defaults = {"temperature": 0} | (defaults or {})
        self.limiter = limiter
        self._exchange = Exchange(endpoint, post, limiter, auth_shown)

    @property
    def capabilities(self) -> Capabilities:
        """What the deployment accepts, as far as is known now."""
        return self.settled.capabilities

    def stop(self) -> None:
        """End waits before and between attempts; calls that wait raise RunCancelled."""
        if self.limiter is not None:
            self.limiter.stop()

    def ask(
        self,
        messages: Sequence[JsonObject],
        session: LineSession,
        *,
        strategy: str | None = None,
        needs: Sequence[str] = (),
        length_is_fine: bool = False,
        read_distribution: Callable[[Completion], Mapping[str, float] | None] = lambda _completion: None,
        **fields: Any,
    ) -> Answer:
        """Make one call and record it in the session.

        Args:
            messages: the conversation.
            session: the line that asks.
            strategy: select strategy to note in the record.
            needs: capabilities (by attribute name) without which the answer would mean something else.
            length_is_fine: a one-token question ends by its limit.
            read_distribution: the choice distribution of a completion, for the answer and its record.
            fields: further fields in neutral names; they override the defaults.

        Raises:
            FieldWithdrawn: the deployment lacks a capability named in `needs`.
            RequirementUnmet: the deployment lacks a field named by `--require`.
            EndpointError: there is no good answer; see errors.py for the kinds.
        """
        wanted = {"model": self._wire_model(), "messages": list(messages)} | self._defaults | fields
        trail = _Trail()
        error: MmluPipeError | None = None
        distribution: Mapping[str, float] | None = None
        try:
            completion = self._complete(wanted, needs, session, trail)
            text = judge(completion, length_is_fine=length_is_fine)
            distribution = read_distribution(completion)
            return Answer(text, completion, distribution)
        except MmluPipeError as failure:
            error = failure
            if failure.stops_run:
                session.stopped = session.stopped or failure
            raise
        finally:
            if trail.attempts:
                session.calls.append(trail.record(session, wanted["messages"], strategy, distribution, error))

    def _wire_model(self) -> str:
        """In the v1 style the body names the deployment; in the dated style the URL does."""
        return self.endpoint.deployment if is_v1(self.endpoint.api_version) else self.endpoint.model

    def _complete(self, wanted: JsonObject, needs: Sequence[str], session: LineSession, trail: _Trail) -> Completion:
        """Send the fields that the deployment knows; where its 400 says otherwise, settle them anew and send again."""
        while True:
            sent_under = self.capabilities
            for need in needs:
                if not getattr(sent_under, need):
                    raise FieldWithdrawn(f"{sent_under.model} on {sent_under.api_version} has no {need}")
            body = self.settled.fit(wanted)
            trail.identify(request_hash(body, self.endpoint.model), session)
            with self._tape.call(trail.identity, trail.occurrence, session.shard, session.line_number) as call:
                found = self._exchange.run(body, sent_under, trail, call)
            if isinstance(found, Completion):
                trail.completion = found
                return found
            self.settled.correct(found, sent_under)


class _Trail:
    """What one call went through, for its record."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.attempts = 0
        self.identity = ""
        self.occurrence = 0
        self.completion: Completion | None = None

    def identify(self, identity: str, session: LineSession) -> None:
        if identity != self.identity:
            self.identity, self.occurrence = identity, session.occurrence(identity)

    def record(
        self,
        session: LineSession,
        messages: Sequence[JsonObject],
        strategy: str | None,
        distribution: Mapping[str, float] | None,
        error: MmluPipeError | None,
    ) -> Call:
        seen = self.completion
        return Call(
            line_number=session.line_number,
            index=len(session.calls),
            request_hash=self.identity,
            messages=messages,
            text=seen.text if seen else None,
            finish_reason=seen.finish_reason if seen else None,
            distribution=distribution,
            usage=seen.usage if seen else None,
            strategy=strategy,
            served_model=seen.served_model if seen else None,
            system_fingerprint=seen.system_fingerprint if seen else None,
            latency_s=round(time.monotonic() - self.started, 6),
            attempts=self.attempts,
            error=error.kind if error else None,
        )
