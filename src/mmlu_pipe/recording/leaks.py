"""What must not stand in a cassette or a run folder, and where it does: file, line and kind, never the secret itself.

Prompts, model text and dataset lines are looked at for credentials alone, since a question may name a host.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from mmlu_pipe.errors import RecordingError, SecretInCassette
from mmlu_pipe.jsonl import MAX_LISTED
from mmlu_pipe.recording.scrub import PLACEHOLDER_DEPLOYMENT
from mmlu_pipe.records import ERROR_KEY

__all__ = ["Leak", "check_clean", "files_to_check", "find_leaks", "refuse_leaks"]

Keys = tuple[str, ...]
Secret = tuple[str, str]
"""(kind, the text to look for); lives no longer than it takes to find its line."""

_GUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_IS = r"[\"'\\]*\s*[:=]\s*[\"'\\\[]*"
_CREDENTIALS = (
    ("JWT", r"eyJ[\w-]{10,2000}\.[\w-]{10,}"),
    ("bearer token", r"(?i:\bbearer)\s+((?=[^\s\"]*[0-9])[\w.~+/-]{16,})"),
    ("API key", r"(?<![\w-])(?=\w*[0-9])(?=\w*[a-fA-F])([0-9a-fA-F]{32})(?![\w-])"),
    ("API key", r"(?<![\w/+-])(?=\w*[0-9])(?=\w*[a-z])(?=\w*[A-Z])([A-Za-z0-9]{84})(?![\w/+=-])"),
    ("API key", r"(?<![\w-])(sk-(?=[\w-]*[0-9])[\w-]{20,})"),
    ("API key", rf"(?i:api[-_]?key|subscription-key|client[-_]secret){_IS}((?=[^\s\"]*[0-9])[\w+/=.-]{{12,}})"),
    ("SAS signature", r"(?<![A-Za-z])sig=([\w%+/=-]{16,})"),
    ("connection string", r"(?:AccountKey|SharedAccessKey|SharedAccessSignature|InstrumentationKey)=([^\s;\"'\\]{8,})"),
    ("password", r"://[^/\s:@\"]+:([^/\s:@\"]+)@"),
)
_CLOUDS = (
    r"(?:openai|services\.ai|cognitiveservices|search|vault)\.azure\.(?:com|us|cn|net)|azure-api\.(?:net|us|cn)|"
    r"api\.cognitive\.(?:microsoft|azure)\.(?:com|us|cn)|(?:inference|api)\.(?:ml|azureml)\.(?:azure\.)?(?:com|us|cn|ms)|"
    r"(?:blob|file|queue|table|dfs)\.core\.[a-z]+\.(?:net|cn)|onmicrosoft\.com"
)
_NAMES = (
    ("host", rf"(?i:(?<![\w.-])(?:[a-z0-9_-]+\.)+(?:{_CLOUDS})(?![\w-]))"),
    ("host", r"^uri: (?i:[a-z]+://(?![^/]*\.invalid\b|localhost\b|127\.0\.0\.1|\[::1\]|api\.openai\.com\b)([^/?#]+))"),
    ("subscription", rf"(?i:/subscriptions/[^/\s\"'?]+|subscription.{{0,30}}?({_GUID}))"),
    ("resource group", r"(?i:/resourcegroups/[^/\s\"'?]+)"),
    ("tenant id", rf"(?i:(?:tenant|\btid\b|directory|microsoftonline\.|sts\.windows\.).{{0,40}}?({_GUID}))"),
    ("request id", r"chatcmpl-(?!0\b(?!-))[\w-]+"),
    ("request id", rf"(?i:(?:request|activity|correlation|trace)[ _-]?id.{{0,20}}?({_GUID}|\b[0-9a-f]{{32}}\b))"),
    ("deployment name", rf"/deployments/(?!{PLACEHOLDER_DEPLOYMENT}(?![^/\s\"'?]))([^/\s\"'?]+)"),
)
_HEADERS = (  # a blank stands for - or _
    ("API key", r"(?:[\w-]*[-_])?api key|[\w-]*subscription key|[\w-]*functions key|(?:[\w-]*[-_])?authorization"),
    ("cookie", r"set cookie2?|cookie"),
    ("request id", r"(?:[\w-]*[-_])?request id|traceparent|cf ray"),
    ("region or deployment header", r"x ms region|x ms deployment name|azureml-[\w-]+|x aml [\w-]+"),
    ("account header", r"openai organization|openai project"),
)
_MODEL_TEXT = frozenset(
    {"messages", "content", "text", "refusal", "arguments", "reasoning_content", "logprobs", "distribution"}
    | {"tools", "functions", "response_format", "stop"}
)
_RECORDED = frozenset({"request", "response", "interactions", ERROR_KEY})  # what is no dataset's text in a line
_PLACEHOLDER = re.compile(
    r"(?i:(?:bearer |basic )?[\W_]*(?:redacted|scrubbed|filtered|removed|hidden|masked|dummy|fake|placeholder|x{3,}|"
    r"test[_-][a-z_-]+|deployment|chatcmpl-0|<[^>]*>|0*)[\W_]*)"
)
_HASH_WORD = re.compile(r"(?i:md5|hash|digest|checksum|ntlm).{0,60}$", re.DOTALL)
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}\[\]]', re.DOTALL)
_FILES = frozenset({".yaml", ".yml", ".json", ".jsonl"})
_LEVELS = 100
_MAX_BODY = 1 << 26  # of a compressed body


@dataclass(frozen=True, order=True)
class Leak:
    """One place: the file, its 1-based line, and the kind of what stands there."""

    file: Path
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}"


def files_to_check(folder: Path) -> list[Path]:
    """The cassettes, provenance and run files of a folder and the folders in it.

    Raises:
        RecordingError: there is no such folder.
    """
    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such folder")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _FILES and path.is_file())


def find_leaks(folder: Path, *, also: Sequence[str] = ()) -> list[Leak]:
    """Every leak in a folder of recordings or of a run, by file and line.

    Args:
        folder: where to look, and in all folders in it.
        also: names of headers, or texts, that must not stand there either; letter case does not matter.

    Raises:
        RecordingError: the folder is missing, or a file cannot be read.
    """
    patterns = _Patterns(also)
    return sorted({leak for path in files_to_check(folder) for leak in _leaks_of(path, patterns)})


def check_clean(folder: Path, also: Sequence[str] = ()) -> None:
    """Refuse a folder that holds a leak.

    Raises:
        SecretInCassette: listing the places.
        RecordingError: the folder is missing, or a file cannot be read.
    """
    refuse_leaks(find_leaks(folder, also=also))


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Make one error of all leaks, if there is one.

    Raises:
        SecretInCassette: listing the places.
    """
    if leaks:
        places = [f"  {leak}" for leak in leaks[:MAX_LISTED]]
        more = [f"  … and {len(leaks) - MAX_LISTED} more"] if len(leaks) > MAX_LISTED else []
        count = f"{len(leaks)} {'place holds' if len(leaks) == 1 else 'places hold'}"
        told = f"{count} what must not be kept; record anew, or remove it and renew the credential:"
        raise SecretInCassette("\n".join([told, *places, *more]), where=f"{leaks[0].file}:{leaks[0].line}")


class _Patterns:
    """What is looked for in one text, in the light of the keys above it."""

    def __init__(self, also: Sequence[str]) -> None:
        self._also = [text.casefold() for text in also if text]
        self._credentials = [(kind, re.compile(pattern)) for kind, pattern in _CREDENTIALS]
        self._names = [(kind, re.compile(pattern)) for kind, pattern in _NAMES]
        self._headers = [
            (kind, re.compile(rf"(?i:(?<![\w-])(?:{names.replace(' ', '[-_]')}){_IS}([^\s\"'\\,;\]][^\r\n\"]*))"))
            for kind, names in _HEADERS
        ]

    def scalar(self, keys: Keys, text: str) -> Iterator[Secret]:
        """The secrets of a value; one that is itself JSON, or server-sent events, is read as such."""
        if "body" in keys and not _is_text(keys) and re.match(r"\s*(?:[{\[]|data:|event:|:)", text):
            said: dict[Keys, str] = {}
            for path, value in _json_strings(text, [""], keys):
                if path[-2:-1] == ("delta",):  # a model's text comes in pieces
                    said[path] = said.get(path, "") + value
                else:
                    yield from self.text(path, value)
            for path, whole in said.items():
                yield from self.text(path, whole)
            text = _TOKEN.sub(" ", text)
        yield from self.text(keys, text)

    def text(self, keys: Keys, text: str) -> Iterator[Secret]:
        key = keys[-1] if keys else ""
        line, free = f"{key}: {text}", _is_text(keys)
        named = (name for name in self._also if name in line.casefold())
        yield from (("named by --also", name if name in text.casefold() else text) for name in named)
        if len(text) > 7:
            for kind, secret, start in _matches(self._credentials, line):
                random = len(secret) not in (32, 84) or len(set(secret)) > 6
                if random and not (free and len(secret) == 32 and _HASH_WORD.search(line[:start])):
                    yield kind, secret
        if free:
            return
        if key == "id" and "body" in keys and text not in ("", "chatcmpl-0") and not text.startswith("call_"):
            yield "request id", text
        yield from ((kind, secret) for kind, secret, _ in _matches(self._names, line))
        headers = _matches(self._headers, line)
        yield from ((kind, secret) for kind, secret, _ in headers if not _PLACEHOLDER.fullmatch(secret))


def _matches(patterns: list[tuple[str, re.Pattern[str]]], line: str) -> Iterator[tuple[str, str, int]]:
    for kind, pattern in patterns:
        for found in pattern.finditer(line):
            yield kind, found[found.lastindex or 0], found.start()


def _is_text(keys: Keys) -> bool:
    return not _MODEL_TEXT.isdisjoint(keys)


def _json_strings(text: str, keys: list[str], base: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Keys and strings, each with the keys above it; `keys` carries them on to the next line of a file."""
    for token in _TOKEN.finditer(text):
        if token[1] is None:
            if token[0] in "{[":
                keys.append("")
            elif len(keys) > 1:
                keys.pop()
            continue
        value = _unescaped(token[1])
        if token[2]:
            keys[-1] = ""
        yield base + tuple(filter(None, keys)), value
        if token[2]:
            keys[-1] = value


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False)) if "\\" in text else text
    except ValueError:
        return text


def _leaks_of(path: Path, patterns: _Patterns) -> Iterator[Leak]:
    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            yield from (Leak(path, line, kind) for line, kind in _yaml_leaks(path, patterns))
            return
        with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as handle:
            dataset, keys = path.suffix.lower() == ".jsonl" and path.name != "calls.jsonl", [""]
            for number, line in enumerate(handle, start=1):
                keys = [""] if path.suffix.lower() == ".jsonl" else keys
                for found, value in [*_json_strings(line, keys), ((), _TOKEN.sub(" ", line))]:
                    text = dataset and not (len(found) > 1 and found[0] in _RECORDED)
                    for kind, _ in patterns.scalar(("text", *found) if text else found, value):
                        yield Leak(path, number, kind)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error


def _yaml_leaks(path: Path, patterns: _Patterns) -> Iterator[tuple[int, str]]:
    """By the parser's events, so that nothing is built; what is no YAML is read as plain lines."""
    import yaml

    with path.open("rb") as handle, path.open("rb") as again:
        lines, window, first, column = _yaml_lines(again), list[tuple[int, str]](), 0, 0
        try:
            for keys, text, start, end in _yaml_scalars(handle):
                window += islice(lines, max(0, end.line + 1 - first - len(window)))
                gap = window[: start.line + 1 - first]  # a comment, if anything
                for place, (number, piece) in enumerate(gap):
                    piece = piece[column if place == 0 else 0 : start.column if place == len(gap) - 1 else None]
                    if "#" in piece:
                        yield from ((number, kind) for kind, _ in patterns.text((), piece))
                held = window[start.line - first :]
                for kind, secret in patterns.scalar(keys, text):
                    spelt = {secret, json.dumps(secret)[1:-1], secret.replace("'", "''")}
                    found = [number for number, piece in held if any(form in piece for form in spelt)]
                    yield from ((number, kind) for number in found or [number for number, _ in held[:1]])
                window, first, column = window[end.line - first :], end.line, end.column
        except (yaml.YAMLError, ValueError):  # torn, or too deep
            key = ""
            for number, piece in chain(window, lines):
                item = re.fullmatch(r"\s*-\s+([^:]*)", piece)
                yield from (
                    (number, kind) for kind, _ in patterns.text((key,) if item else (), item[1] if item else piece)
                )
                key = found_key[1] if (found_key := re.match(r"[\s-]*([\w-]+):", piece)) else key


def _yaml_lines(handle: BinaryIO) -> Iterator[tuple[int, str]]:
    """Lines as YAML counts them, each with the number that an editor shows."""
    for number, raw in enumerate(handle, start=1):
        text = re.sub(r"\r?\n$", "", raw.decode("utf-8", "replace"))
        yield from ((number, piece) for piece in re.split("[\r\x85\u2028\u2029]", text))


def _yaml_scalars(handle: BinaryIO) -> Iterator[tuple[Keys, str, Any, Any]]:
    """Values and keys, each with the keys above it and its place; the end of the file is an empty one."""
    import yaml

    stack: list[list[str | None]] = [[""]]  # of each level the key; None where a key is due, "" in a list
    for event in yaml.parse(handle, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.ScalarEvent):
            text = _binary(event.value) if str(event.tag).endswith(":binary") else event.value
            yield tuple(key for (key,) in stack if key), text, event.start_mark, event.end_mark
            if stack[-1][0] is None:
                stack[-1][0] = text or "?"
                continue
        elif isinstance(event, yaml.StreamEndEvent):
            yield (), "", event.start_mark, event.end_mark
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(stack) > _LEVELS:
                raise ValueError("too deep")
            stack.append([None if isinstance(event, yaml.MappingStartEvent) else ""])
            continue
        elif not isinstance(event, yaml.AliasEvent):
            continue
        stack[-1][0] = None if stack[-1][0] != "" else ""


def _binary(text: str) -> str:
    try:
        content = base64.b64decode(text)
        if content.startswith(b"\x1f\x8b"):
            content = zlib.decompressobj(wbits=31).decompress(content, _MAX_BODY)
    except (ValueError, zlib.error):
        return text
    return content.decode("utf-8", "replace")
