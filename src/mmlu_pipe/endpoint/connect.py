"""Everything between a run's options and a guidance model that answers, put together once a run."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.endpoint.address import endpoint_kind, normalise
from mmlu_pipe.endpoint.capabilities import Capabilities, parse_requirements, settle
from mmlu_pipe.endpoint.chat import ChatClient, Settled
from mmlu_pipe.endpoint.client import build_transport, open_client
from mmlu_pipe.endpoint.credentials import Credential, choose_credential
from mmlu_pipe.endpoint.interpreter import chat_model
from mmlu_pipe.endpoint.limiter import Limiter
from mmlu_pipe.endpoint.select import Selector
from mmlu_pipe.errors import ConfigError, RecordingError
from mmlu_pipe.plugins import manager
from mmlu_pipe.recording.cassette import Cassette
from mmlu_pipe.recording.provenance import read_provenance, recorded_endpoint
from mmlu_pipe.recording.tape import NO_TAPE, Tape
from mmlu_pipe.recording.transport import TapeDeck
from mmlu_pipe.records import Endpoint, JsonObject

if TYPE_CHECKING:
    import httpx2
    from guidance.models import Model

__all__ = ["Connection", "ModelOptions", "connect"]

_log = logging.getLogger("mmlu_pipe.endpoint")


@dataclass(frozen=True)
class ModelOptions:
    """How to reach a model, and how to ask it; the fields mean what they mean in config.RunConfig.

    In a job, `auth` may be one of config.IDENTITIES, with the client id of a user-assigned one.
    """

    auth: str = "auto"
    identity_client_id: str | None = None
    workers: int = 8
    rpm: int | None = None
    tpm: int | None = None
    timeout: float = 300.0
    max_wait: float = 300.0
    cassette: Path | None = None
    record_mode: str = "none"
    select_strategy: str = "auto"
    require: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None
    stream: bool = False


@dataclass(frozen=True)
class Connection:
    """A model ready to answer.

    Attributes:
        model: the guidance model; lines work on copies of it.
        endpoint: the normalised endpoint, or the recorded one.
        client: the client under the model; None where a plugin made the model.
        cassette: the recordings in use, if any.
        records: whether new answers are recorded.
        auth_shown: which credential is used, for people.
    """

    model: Model
    endpoint: Endpoint
    client: ChatClient | None
    cassette: Cassette | None
    records: bool
    auth_shown: str

    @property
    def facts(self) -> JsonObject:
        """What a manifest keeps: no host, no deployment name."""
        found: JsonObject = {
            "model": self.endpoint.model,
            "api_version": self.endpoint.api_version,
            "endpoint_kind": "recorded" if self.auth_shown == _NO_AUTH else endpoint_kind(self.endpoint),
            "auth": self.auth_shown,
        }
        if self.client is not None:
            found["capabilities"] = dataclasses.asdict(self.client.capabilities)
            found["capability_notes"] = self.client.settled.notes()
            if self.client.limiter is not None:
                found["limits"] = self.client.limiter.facts
        return found


_NO_AUTH = "none (recordings)"


@contextmanager
def connect(endpoint: Endpoint | None, options: ModelOptions) -> Iterator[Connection]:
    """Open the model of a run and close it afterwards.

    Args:
        endpoint: the deployment as configured; None replays with the facts of the cassette's provenance.
        options: how to reach and ask it.

    Raises:
        ConfigError, AuthenticationFailed, RecordingError, RequirementUnmet: before any request is made.
    """
    if endpoint is None:
        if options.cassette is None:
            raise ConfigError("neither an endpoint nor a cassette is given; nothing can answer")
        endpoint = recorded_endpoint(options.cassette)
    else:
        endpoint = normalise(endpoint)
    made = manager().hook.make_model(endpoint=endpoint, options=dataclasses.asdict(options))
    if made is not None:
        yield Connection(made, endpoint, None, None, records=False, auth_shown="none (a plugin's model)")
        return
    requirements = parse_requirements(options.require)
    selector = Selector(options.select_strategy)
    recorded = None if options.cassette is None else read_provenance(options.cassette)
    settled = Settled(_capabilities(endpoint, recorded), requirements, _log.warning)
    cassette = _open_cassette(endpoint, options, recorded)
    replays = cassette is not None and (
        options.record_mode == "none" or (options.record_mode == "once" and cassette.existed)
    )
    credential = (
        Credential(_NO_AUTH, key="recorded")
        if replays
        else choose_credential(endpoint, options.auth, options.identity_client_id)
    )
    if not settled.capabilities.chat:
        _log.warning("%s is not known as a chat model; the endpoint may refuse it", endpoint.model)
    if replays:
        _log.info("answers come from recordings; nothing is asked")
    else:
        _log.info("answers from %s, authorised by %s", endpoint.endpoint, credential.shown)
    transport: httpx2.BaseTransport | None = None if replays else build_transport(endpoint, options.workers)
    tape: Tape = NO_TAPE
    if cassette is not None:
        secrets = (credential.key,) if credential.key and not replays else ()
        deck = TapeDeck(cassette, endpoint.model, transport, lambda: secrets)
        transport = tape = deck
    assert transport is not None
    try:
        post, close = open_client(endpoint, credential, transport, timeout=options.timeout)
    except BaseException:
        transport.close()
        raise
    limiter = None
    if not replays:
        limiter = Limiter(options.workers, rpm=options.rpm, tpm=options.tpm, max_wait=options.max_wait)
    client = ChatClient(
        endpoint,
        post,
        settled,
        tape=tape,
        defaults=_defaults(options),
        limiter=limiter,
        auth_shown=credential.shown,
    )
    try:
        yield Connection(
            chat_model(client, selector),
            endpoint,
            client,
            cassette,
            cassette is not None and not replays,
            credential.shown,
        )
    finally:
        close()
        if cassette is not None:
            cassette.finish()


def _open_cassette(endpoint: Endpoint, options: ModelOptions, recorded: JsonObject | None) -> Cassette | None:
    if options.cassette is None:
        return None
    if options.record_mode != "none" and recorded is not None and recorded["model"] != endpoint.model:
        raise RecordingError(
            f"{options.cassette}: holds answers of {recorded['model']!r}; record those of {endpoint.model!r} into a "
            "folder of their own (--cassette DIR)"
        )
    return Cassette(options.cassette, fresh=options.record_mode == "all")


def _capabilities(endpoint: Endpoint, recorded: JsonObject | None) -> Capabilities:
    """The table's, or what a recording of the same model and version had settled in the end."""
    try:
        settled = settle(endpoint.model, endpoint.api_version)
    except ValueError as error:
        raise ConfigError(f"aoai_api_version: {error}", key="aoai_api_version") from error
    if recorded and (recorded["model"], recorded["api_version"]) == (endpoint.model, endpoint.api_version):
        known = {field.name for field in dataclasses.fields(Capabilities)}
        kept: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (recorded.get("capabilities") or {}).items()
            if name in known
        }
        return dataclasses.replace(settled, **kept)
    return settled


def _defaults(options: ModelOptions) -> JsonObject:
    fields: JsonObject = {}
    if options.seed is not None:
        fields["seed"] = options.seed
    if options.reasoning_effort is not None:
        fields["reasoning_effort"] = options.reasoning_effort
    if options.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return fields
