"""One body sent until its exchange ends: attempts within the limits, waits between them, and every failure typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx2
import openai

from mmlu_pipe.endpoint.capabilities import Capabilities, Correction, correction
from mmlu_pipe.endpoint.client import Post
from mmlu_pipe.endpoint.failures import come_back_later, rejection, unanswered, unreachable, without_names
from mmlu_pipe.endpoint.limiter import Limiter, Slot
from mmlu_pipe.endpoint.retry import MAX_ATTEMPTS, is_retryable, retry_after, retry_delay
from mmlu_pipe.endpoint.wire import Completion, error_object, read_completion
from mmlu_pipe.errors import ContentFiltered, EndpointError, EndpointRejected, EndpointUnavailable
from mmlu_pipe.recording.tape import TapeCall
from mmlu_pipe.records import Endpoint, JsonObject

__all__ = ["Attempts", "Exchange"]


class Attempts(Protocol):
    """Where the attempts of a call are counted."""

    attempts: int


@dataclass(frozen=True)
class _Again:
    """An attempt that another one may better."""

    failed: EndpointError
    status: int = 0
    headers: Mapping[str, str] | None = None


class Exchange:
    """Sends bodies to one deployment; shared by all worker threads.

    Args:
        endpoint: the deployment, for messages.
        post: sends one body (endpoint/client.py).
        limiter: gives leave for each attempt; without one, as in replay, nothing is asked again.
        auth_shown: which credential is used, for messages.
    """

    def __init__(self, endpoint: Endpoint, post: Post, limiter: Limiter | None, auth_shown: str) -> None:
        self._endpoint = endpoint
        self._post = post
        self._limiter = limiter
        self._auth_shown = auth_shown

    def run(
        self, body: JsonObject, sent_under: Capabilities, trail: Attempts, call: TapeCall
    ) -> Completion | Correction:
        """Send until the exchange ends, and keep the response that ended it on the tape.

        A rate limit is waited for, `max_wait` seconds in all; anything else that may pass gets MAX_ATTEMPTS.

        Raises:
            ComeBackLater: a wait is asked for that is longer than `max_wait`.
            EndpointError: there is no answer; see errors.py for the kinds.
            RunCancelled: the run was stopped between two attempts.
        """
        refusals = troubles = 0
        waited = 0.0
        while True:
            found = self._attempt(body, sent_under, trail, call)
            if not isinstance(found, _Again):
                return found
            limiter, failed, headers = self._limiter, found.failed, found.headers or {}
            if limiter is None:
                raise failed
            asked = retry_after(headers)
            if asked is not None and asked > limiter.max_wait:
                raise come_back_later(failed, asked, limiter.max_wait)
            if found.status == 429:
                refusals += 1
                delay = retry_delay(refusals, headers)
                waited += delay if asked is None else asked  # without what spreads the waits
                if waited > limiter.max_wait:
                    raise type(failed)(
                        f"{failed} (after {trail.attempts} attempts and --max-wait {limiter.max_wait:g} s)"
                    )
            else:
                troubles += 1
                if troubles == MAX_ATTEMPTS:
                    raise type(failed)(f"{failed} (after {trail.attempts} attempts)")
                delay = retry_delay(troubles, headers)
            limiter.pause(delay)

    def _attempt(
        self, body: JsonObject, sent_under: Capabilities, trail: Attempts, call: TapeCall
    ) -> Completion | Correction | _Again:
        try:
            completion = self._answer(body, trail)
            call.keep()
            return completion
        except openai.APIStatusError as failure:
            headers, status = failure.response.headers, failure.status_code
            error = error_object(self._without_secrets(failure))
            if isinstance(message := error.get("message"), str):
                error = error | {"message": without_names(message, self._endpoint)}
            if found := correction(sent_under, status, error):
                return found
            if is_retryable(status, headers):
                return _Again(unanswered(status, error, headers), status, headers)
            problem = rejection(status, error, headers, self._endpoint, self._auth_shown)
            if isinstance(problem, ContentFiltered | EndpointRejected) and not problem.stops_run:
                call.keep()  # it belongs to this request: asked again, the endpoint would say the same
            raise problem from None
        except openai.APIConnectionError as failure:
            unreached = unreachable(failure.__cause__ or failure, self._endpoint)
            if unreached.stops_run:
                raise unreached from None
            return _Again(unreached)
        except EndpointUnavailable as failure:
            return _Again(failure)

    def _answer(self, body: JsonObject, trail: Attempts) -> Completion:
        if self._limiter is None:
            trail.attempts += 1
            return _read(self._post(body))
        slot = self._limiter.acquire(body)
        trail.attempts += 1
        completion = _read(self._post_in(slot, self._limiter, body))
        self._limiter.spent(slot, completion.usage)
        return completion

    def _post_in(self, slot: Slot, limiter: Limiter, body: JsonObject) -> httpx2.Response:
        status, headers = 0, httpx2.Headers()
        try:
            response = self._post(body)
            status, headers = response.status_code, response.headers
            return response
        except openai.APIStatusError as failure:
            status, headers = failure.status_code, failure.response.headers
            raise
        finally:
            limiter.release(slot, status, headers)

    def _without_secrets(self, failure: openai.APIStatusError) -> bytes:
        """The body of an error response; a gateway may repeat the credential in it."""
        content = failure.response.content
        if self._limiter is None:
            return content  # a recording, scrubbed when it was made
        for name in ("api-key", "authorization"):
            secret = failure.request.headers.get(name, "").removeprefix("Bearer ")
            if secret:
                content = content.replace(secret.encode(), b"[credential]")
        return content


def _read(response: httpx2.Response) -> Completion:
    return read_completion(response.content, response.headers.get("content-type", ""))
