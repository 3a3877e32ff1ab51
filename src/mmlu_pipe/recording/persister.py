"""Cassettes of ours under plain vcrpy and pytest-recording: a folder is one cassette, found by what a request means.

vcrpy's persister protocol is `load_cassette(path, serializer)` and `save_cassette(path, cassette_dict, serializer)`
(vcr/persisters/filesystem.py of vcrpy 9).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from vcr import matchers
from vcr.persisters.filesystem import CassetteNotFoundError, FilesystemPersister
from vcr.record_mode import RecordMode
from vcr.request import Request

from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording.cassette import Key
from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.recording.index import part_of, put
from mmlu_pipe.recording.interactions import Exchange
from mmlu_pipe.recording.order import shard_paths
from mmlu_pipe.recording.scrub import PLACEHOLDER_HOST
from mmlu_pipe.recording.shards import read_shard
from mmlu_pipe.records import JsonObject

__all__ = ["MATCHER", "FolderPersister", "meaning_matcher", "register"]

MATCHER = "meaning"
"""The name under which the matcher is registered."""

_NOT_WRITTEN = (
    "vcrpy does not record into a folder of mmlu-pipe; record with mmlu-pipe (--cassette DIR --record-mode all), or "
    "name a file as the cassette"
)
_SUFFIXES = (".yaml", ".yml", ".json")  # what vcrpy and pytest-recording append to a name
_Path = str | PathLike[str]
_Loaded = tuple[list[Any], list[JsonObject]]


class _Identity(NamedTuple):
    """What a chat completion means, the model it names, and whether its answer is a stream."""

    meaning: str
    model: str
    stream: bool


def register(recorder: Any, *, model: str | None = None) -> None:
    """Let a recorder play folders of ours, and match by meaning unless a test says otherwise.

    A folder is only read: what it does not hold is not asked for in any record mode, and `all` is refused.

    Args:
        recorder: a `vcr.VCR`, such as the one that pytest-recording's hook `pytest_recording_configure` is given.
        model: the declared model, where the requests name a deployment of it in its place.
    """
    recorder.register_persister(FolderPersister(recorder.persister))
    recorder.register_matcher(MATCHER, meaning_matcher(model))
    recorder.match_on = ("method", MATCHER)  # vcrpy explains a miss only where another matcher agrees
    recorder.get_merged_config = _reading_folders(recorder.get_merged_config)


class FolderPersister:
    """A persister for which a folder is one cassette that is only read; files are left to another persister.

    Args:
        files: the persister for files; the further cassettes of pytest-recording's marker may be folders, too.
    """

    def __init__(self, files: Any = FilesystemPersister) -> None:
        self._files = files

    def load_cassette(self, cassette_path: _Path, serializer: Any) -> Any:
        """The requests and responses of a folder, or what the other persister finds in a file.

        Raises:
            RecordingError: a folder holds no recordings, or a shard of it is no cassette.
            CassetteNotFoundError: there is no such file, as vcrpy expects it.
        """
        paths = [cassette_path, *getattr(self._files, "extra_paths", ())]
        if not any(map(_folder, paths)):
            return self._files.load_cassette(cassette_path, serializer)
        requests, responses = list[Any](), list[JsonObject]()
        for path in dict.fromkeys(map(Path, paths)):
            folder = _folder(path)
            with suppress(CassetteNotFoundError):
                loaded = _load(folder) if folder else FilesystemPersister.load_cassette(path, serializer)
                requests += loaded[0]
                responses += loaded[1]
        return requests, responses

    def save_cassette(self, cassette_path: _Path, cassette_dict: Mapping[str, Any], serializer: Any) -> None:
        """Save a file; a folder is never written to, so that something new for it is refused.

        Raises:
            RecordingError: there is something new for a folder.
        """
        folder = _folder(cassette_path)
        if folder is None:
            self._files.save_cassette(cassette_path, cassette_dict, serializer)
            return
        known, asked = _pairs(*_load(folder)), _pairs(cassette_dict["requests"], cassette_dict["responses"])
        new = sum(pair not in known for pair in asked)
        if new or cassette_dict.get("metadata"):
            raise RecordingError(f"{folder}: {_NOT_WRITTEN}; new would be: {new or 'metadata'}")


def meaning_matcher(model: str | None = None) -> Callable[[Any, Any], None]:
    """A matcher of vcrpy: chat completions that ask the same, wherever they are sent.

    The form of the answer (one body, or a stream) must be the same as well, since a client reads what it asked for.
    Other requests must have the same method, address and body.

    Args:
        model: the declared model, where requests name a deployment of it in its place.
    """
    known: WeakKeyDictionary[Any, _Identity | None] = WeakKeyDictionary()  # a cassette is scanned once a request

    def identity(request: Any) -> _Identity | None:
        if request not in known:
            known[request] = _identity(request, model)
        return known[request]

    def meaning(asked: Any, recorded: Any) -> None:
        ours, theirs = identity(asked), identity(recorded)
        if ours is None or theirs is None:
            for match in (matchers.method, matchers.uri, matchers.body):
                match(asked, recorded)
        elif ours.model != theirs.model:
            raise AssertionError(
                f"model {ours.model!r} asked, {theirs.model!r} recorded; is the first a deployment of the second? "
                f"Then say so: register(…, model={theirs.model!r})"
            )
        elif ours.meaning != theirs.meaning:
            raise AssertionError("the messages, or what is asked of the model, differ")
        elif ours.stream != theirs.stream:
            raise AssertionError("one asks for a stream, and the other does not")

    return meaning


def _reading_folders(merged: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Settle a cassette's options so that nothing new is asked for a folder.

    To refuse when it is saved is too late: the answers are paid for, and vcrpy goes on patching where saving fails.
    """

    def get_merged_config(**options: Any) -> dict[str, Any]:
        config = merged(**options)
        path, transform = config.get("path"), config["path_transformer"]
        folder = _folder(transform(path) if transform else path) if path else None
        if folder and config["record_mode"] == RecordMode.ALL:
            raise RecordingError(f"{folder}: {_NOT_WRITTEN}")
        if folder and config["record_mode"] != RecordMode.NONE:
            config["record_mode"] = RecordMode.ONCE
        return config

    return get_merged_config


def _identity(request: Any, model: str | None) -> _Identity | None:
    """The identity of a chat completion, None of any other request."""
    if request.method != "POST" or not urlsplit(request.uri).path.endswith("/chat/completions"):
        return None
    try:
        body = json.loads(request.body)
        if not isinstance(body["messages"], list):
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    scrubbed = urlsplit(request.uri).hostname == PLACEHOLDER_HOST  # its model is the declared one
    declared = str(body.get("model") if scrubbed or model is None else model)
    return _Identity(request_hash(body, declared), declared, bool(body.get("stream")))


def _folder(path: _Path) -> Path | None:
    """The folder that a path names, with or without the suffix that was appended to its name."""
    path = Path(path)
    if path.is_file():
        return None
    found = path if path.is_dir() or path.suffix not in _SUFFIXES else path.with_suffix("")
    return found if found.is_dir() else None


def _load(folder: Path) -> _Loaded:
    """All shards in order, as vcrpy holds them; of equal requests, the one that a line made first comes first."""
    found: dict[Key, tuple[tuple[tuple[str, int], int], Exchange]] = {}  # each with its place
    for stem, path in shard_paths(folder).items():
        numbered = enumerate(read_shard(path).items)
        put(found, ((each.identity, says, ((part_of(stem), number), each)) for number, (each, says) in numbered))
    if not found:
        raise RecordingError(f"{folder}: holds no recordings; check the folder's name, or record some with mmlu-pipe")
    turns: dict[str, list[int]] = defaultdict(list)
    for identity, occurrence in sorted(found, reverse=True):
        turns[identity].append(occurrence)
    keys = [(identity, turns[identity].pop()) for identity, _ in sorted(found, key=lambda key: found[key][0])]
    items = [found[key][1].to_item() for key in keys]
    for item in items:
        item["response"]["body"]["string"] = item["response"]["body"]["string"].encode()
    return [Request(**item["request"]) for item in items], [item["response"] for item in items]


def _pairs(requests: list[Any], responses: list[JsonObject]) -> set[tuple[bytes, Any]]:
    bodies = (response["body"].get("string") for response in responses)
    return {(request.body, body) for request, body in zip(requests, bodies, strict=True)}
