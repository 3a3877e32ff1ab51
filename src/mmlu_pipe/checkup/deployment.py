"""The deployment itself: reached, asked at most three times, and compared with what the table of capabilities says."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from mmlu_pipe.checkup.examination import ROLE, Finding, worded
from mmlu_pipe.endpoint.capabilities import Capabilities, family, settle
from mmlu_pipe.endpoint.chat import ChatClient, FieldWithdrawn, Settled
from mmlu_pipe.endpoint.client import Post, build_transport, open_client
from mmlu_pipe.endpoint.credentials import Credential
from mmlu_pipe.endpoint.failures import unreachable
from mmlu_pipe.endpoint.select import JsonSchemaSelect, Question
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.endpoint.transport import DirectTransport
from mmlu_pipe.errors import (
    AuthenticationFailed,
    ContentFiltered,
    EndpointError,
    EndpointRejected,
    EndpointUnavailable,
    RateLimited,
    Refused,
    SelectFailed,
    Truncated,
)
from mmlu_pipe.records import Endpoint, JsonObject

__all__ = ["MOST_REQUESTS", "Deployment", "reach"]

MOST_REQUESTS = 3
"""To the deployment, in all."""

_TIMEOUT_S = 10.0
_TOKENS = 5
_SELECT_TOKENS = 20
_REASONING_TOKENS = 500
"""Reasoning is paid from the same limit, and a deployment may refuse to answer below it."""


class _NoMoreRequests(EndpointError):
    """The deployment was asked often enough."""


def reach(endpoint: Endpoint, file: Path) -> Finding:
    """Name look-up, connection, TLS and an HTTP answer of any kind, without a credential; the value is the transport.

    Raises:
        ConfigError: the environment's certificates or proxy cannot be used.
    """
    transport = build_transport(endpoint, 1)
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), _TIMEOUT_S)
    request = httpx2.Request("GET", f"{endpoint.endpoint}/", extensions={"timeout": timeout})
    try:
        response = transport.handle_request(request)
        response.read()
        response.close()
    except (httpx2.RequestError, ssl.SSLError) as error:
        transport.close()
        return worded(unreachable(error, endpoint), f"the aoai_* keys are in {file}")
    way = "directly" if isinstance(transport, DirectTransport) else "through the proxy of the environment"
    secured = "TLS" if request.url.scheme == "https" else "plain HTTP"
    return Finding(f"reached {way}, {secured}", value=transport)


@dataclass
class Deployment:
    """A deployment under examination; its checks share the three requests.

    Args:
        endpoint: the deployment, normalised.
        file: where it is configured, for advice.
        credential: who asks.
        transport: the way to it.
    """

    endpoint: Endpoint
    file: Path
    credential: Credential
    transport: httpx2.BaseTransport

    def __post_init__(self) -> None:
        self.known = settle(self.endpoint.model, self.endpoint.api_version)
        self._learnt = self.known  # the table, and what an answer has corrected
        self.requests = 0
        self._session = LineSession(1)
        self._post, _ = open_client(self.endpoint, self.credential, self.transport, timeout=2 * _TIMEOUT_S)

    def answers(self) -> Finding:
        """Whether it exists, lets us in and answers."""
        client = self._client(self.known)
        try:
            client.ask(
                [{"role": "user", "content": "Say 1."}],
                self._session,
                length_is_fine=True,
                **self._limits(_TOKENS),
            )
        except RateLimited as error:
            advice = "it exists and lets you in; wait, run with a lower --rpm or --tpm, or raise its quota"
            return worded(error, advice)
        except ContentFiltered as error:
            return worded(error, "look at the content filter of the deployment")
        except (Refused, Truncated):
            pass
        except AuthenticationFailed as error:
            if ROLE in str(error):
                return worded(error)
            return worded(error, f"with Entra ID you need the role {ROLE!r} on the resource of aoai_endpoint")
        except EndpointRejected as error:
            key = "aoai_deployment" if "aoai_deployment" in str(error) else "aoai_* keys"
            return Finding(str(error), f"correct the {key} in {self.file}", "failed")
        except EndpointUnavailable as error:
            return worded(error, f"if it lasts, look at Azure's service health, or check aoai_endpoint in {self.file}")
        self._learnt = client.capabilities
        return Finding(f"answers, authorised by {self.credential.shown}", value=self)

    def served_model(self) -> Finding:
        """Whether the model that answers is the configured one."""
        served, configured = self._session.calls[-1].served_model, self.endpoint.model
        if served is None:
            return Finding("the endpoint names no model", state="warning")
        if _same_model(served, configured):
            return Finding(f"{served}, and aoai_model is {configured}")
        advice = f'set "aoai_model" to "{served}" in {self.file}: it decides what is asked, and whose score it is'
        return Finding(f"{served}, but aoai_model is {configured}", advice, "warning")

    def structured_outputs(self) -> Finding:
        """Whether a tiny `select` by JSON schema works, whatever the table says; the value is what is known then."""
        wanted = replace(
            self._learnt, structured_outputs=True, logprobs=True, max_top_logprobs=self.known.max_top_logprobs or 5
        )
        client = self._client(wanted)
        state: bool | None = True
        try:
            question = Question(
                client,
                self._session,
                [{"role": "user", "content": "Choose 1."}],
                ["0", "1"],
                self._limits(_SELECT_TOKENS),
            )
            JsonSchemaSelect().select(question)
        except (Refused, Truncated):
            pass
        except FieldWithdrawn:
            state = False
        except _NoMoreRequests:
            state = None if client.capabilities.structured_outputs else False
        except (SelectFailed, EndpointRejected) as error:
            return Finding(f"do not work: {error}", "run with --select-strategy text", "warning", client)
        return replace(self._compared("structured_outputs", state, client), value=client)

    def logprobs(self, client: ChatClient) -> Finding:
        """Whether tokens come with their probabilities; asked again where the `select` could not tell."""
        last = self._session.calls[-1]
        state: bool | None = last.distribution is not None
        if not state and client.capabilities.logprobs:
            state = self._ask_logprobs(client)
        if state is False and client.capabilities.logprobs:
            found = "accepted, and none came with the answer"
            advice = "run with --select-strategy text or json_schema; probabilities will be missing"
            return Finding(found, advice, "warning" if self.known.logprobs else "ok")
        return self._compared("logprobs", state, client)

    def _ask_logprobs(self, client: ChatClient) -> bool | None:
        try:
            answer = client.ask(
                [{"role": "user", "content": "Say 1."}],
                self._session,
                needs=("logprobs",),
                length_is_fine=True,
                logprobs=True,
                top_logprobs=5,
                **self._limits(_TOKENS),
            )
        except FieldWithdrawn:
            return False
        except _NoMoreRequests:
            return None if client.capabilities.logprobs else False
        return bool(answer.completion.tokens)

    def _compared(self, name: str, state: bool | None, client: ChatClient) -> Finding:
        expected, model = bool(getattr(self.known, name)), self.known.model
        if state is None:
            return Finding(f"not found out with {MOST_REQUESTS} requests in all", state="warning")
        if state:
            return Finding(f"work, {'as' if expected else 'though not'} known of {model}")
        if not expected:
            return Finding(f"refused, as known of {model}")
        field = {"structured_outputs": "response_format"}.get(name, name)
        said = "; ".join(text for text in client.settled.corrections if field in text)
        advice = f"runs find that out and do without, unless --require {name} is given"
        return Finding(f"refused, though known to work with {model} ({said})", advice, "warning")

    def _limits(self, tokens: int) -> JsonObject:
        efforts = self.known.reasoning_effort
        if not efforts:
            return {"max_completion_tokens": tokens}
        return {"max_completion_tokens": _REASONING_TOKENS, "reasoning_effort": efforts[0]}

    def _client(self, capabilities: Capabilities) -> ChatClient:
        """Without a limiter nothing is sent again, except where the endpoint corrects the table."""
        return ChatClient(
            self.endpoint, self._counted(self._post), Settled(capabilities), auth_shown=self.credential.shown
        )

    def _counted(self, post: Post) -> Callable[[JsonObject], httpx2.Response]:
        def send(body: JsonObject) -> httpx2.Response:
            if self.requests == MOST_REQUESTS:
                raise _NoMoreRequests(f"{MOST_REQUESTS} requests are made; no more are")
            self.requests += 1
            return post(body)

        return send


def _same_model(served: str, configured: str) -> bool:
    """Whether one name is the other, or the other with a version at its end."""
    short, long = sorted((family(served), family(configured)), key=len)
    return re.fullmatch(rf"{re.escape(short)}(-\d{{4}}-\d{{2}}-\d{{2}}|-\d{{4}}|-latest)?(-preview)?", long) is not None
