"""Weights are the pinned ones, byte for byte, or are not served; a file of one's own is served as what it is."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.serve import weights
from mmlu_pipe.serve.weights import DEFAULT_MODEL, KNOWN, Weights, find_model

CONTENT = b"GGUF" + bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REVISION = "0123456789abcdef0123456789abcdef01234567"
SMALL = Weights("someone/small-GGUF", REVISION, "small.gguf", len(CONTENT), SHA256, "MIT")


@dataclass
class FileHub:
    """A hub on loopback with one file; `cut` breaks the first download off after so many bytes."""

    url: str = ""
    content: bytes = CONTENT
    missing: bool = False
    cut: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileHub]:
    state = FileHub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            state.asked.append((self.command, self.headers.get("Range")))
            if state.missing or self.path != f"/{SMALL.repository}/resolve/{REVISION}/{SMALL.file}":
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(found[1]) if found else 0
            part = state.content[start:]
            self.send_response(206 if found else 200)
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha256(state.content).hexdigest()}"')
            if found:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part[: state.cut])
                state.cut = None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", state.url)
    monkeypatch.setitem(weights.KNOWN, "small", SMALL)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_known_weights_are_pinned_by_commit_and_hash() -> None:
    assert DEFAULT_MODEL in KNOWN
    for known in KNOWN.values():
        assert re.fullmatch(r"[0-9a-f]{40}", known.revision)
        assert re.fullmatch(r"[0-9a-f]{64}", known.sha256)
        assert known.file.endswith(".gguf")
        assert known.licence
    assert KNOWN[DEFAULT_MODEL].size == 1_117_320_768


def test_known_weights_are_downloaded_once_and_are_the_pinned_bytes(hub: FileHub, tmp_path: Path) -> None:
    found = find_model("small", cache=tmp_path)
    assert found.path.read_bytes() == CONTENT
    assert (found.name, found.sha256) == ("small", SHA256)
    assert REVISION in found.origin
    hub.asked.clear()
    assert find_model("small", cache=tmp_path) == found
    assert hub.asked == []


def test_a_connection_that_broke_is_taken_up_where_it_broke(
    hub: FileHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut = 5000
    assert find_model("small", cache=tmp_path).path.read_bytes() == CONTENT
    assert hub.asked[-1] == ("GET", "bytes=5000-")


def test_other_bytes_than_the_pinned_are_not_served(hub: FileHub, tmp_path: Path) -> None:
    hub.content = CONTENT[:-1] + b"!"
    with pytest.raises(ConfigError, match=f"not the pinned {SHA256} of small, and is not served") as raised:
        find_model("small", cache=tmp_path)
    bad = raised.value.path
    assert bad is not None
    bad.unlink()
    hub.content = CONTENT
    assert find_model("small", cache=tmp_path).sha256 == SHA256


def test_a_file_that_the_hub_no_longer_has_is_told_with_another_way(hub: FileHub, tmp_path: Path) -> None:
    hub.missing = True
    with pytest.raises(ConfigError, match=r"does not have small\.gguf of someone/small-GGUF .* --model-file FILE"):
        find_model("small", cache=tmp_path)


@pytest.mark.parametrize("how", ["nobody listens", "offline by choice"])
def test_without_the_hub_the_message_says_so_at_once(
    how: str, hub: FileHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "nobody listens":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=r"the hub cannot be reached .* --model-file FILE"):
        find_model("small", cache=tmp_path)
    assert time.monotonic() - begun < 5
    assert hub.asked == []


def test_without_the_hubs_client_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r'pip install "huggingface-hub>=2\.4"'):
        find_model(cache=tmp_path)


def test_an_unknown_name_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=f"'gpt-9'.*{DEFAULT_MODEL}.*--model-file"):
        find_model("gpt-9")


def test_a_file_of_ones_own_needs_no_hub_and_is_called_what_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    path = tmp_path / "mine.gguf"
    path.write_bytes(CONTENT)
    assert find_model(file=path).name == "mine"
    found = find_model("My-Model", path)
    assert (found.path, found.name, found.sha256) == (path, "My-Model", SHA256)
    assert "unknown origin" in found.origin


def test_pinned_weights_in_a_file_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.KNOWN, "small", SMALL)
    path = tmp_path / "renamed.gguf"
    path.write_bytes(CONTENT)
    found = find_model(file=path)
    assert found.name == "small"
    assert "the pinned weights" in found.origin


def test_other_bytes_cannot_take_a_pinned_name(tmp_path: Path) -> None:
    path = tmp_path / f"{DEFAULT_MODEL}.gguf"
    path.write_bytes(CONTENT)
    for name in (DEFAULT_MODEL, None):
        with pytest.raises(ConfigError, match=f"so it is not the pinned {DEFAULT_MODEL}"):
            find_model(name, path)


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read"), (b"", "is no GGUF file"), (b"PK\x03\x04", "is no GGUF file")]
)
def test_what_is_no_model_file_is_told_before_anything_is_loaded(
    content: bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=told) as raised:
        find_model(file=path)
    assert raised.value.path == path


def test_a_name_that_no_configuration_could_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my model.gguf"
    path.write_bytes(CONTENT)
    with pytest.raises(ConfigError, match="give one with --model NAME"):
        find_model(file=path)
