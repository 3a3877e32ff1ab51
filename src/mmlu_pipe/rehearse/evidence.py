"""What was seen of a rehearsal, and what that proves: every proof is computed from requests, blobs and files."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.backends.azureml.snapshot import write_snapshot
from mmlu_pipe.config import IDENTITIES
from mmlu_pipe.rehearse.compare import first_difference
from mmlu_pipe.rehearse.result import Proof

if TYPE_CHECKING:
    from mmlu_pipe.recording.server import ReplayServer
    from mmlu_pipe.records import JsonObject
    from mmlu_pipe.rehearsal import Azurite, Recorded, Run, Twin
    from mmlu_pipe.rehearse.subject import Subject

__all__ = ["Seen", "kinds_of", "proofs"]

ASKS, SCORES = "run_aoai_guidance", "score_results"

_ASSETS = ("data", "codes", "environments", "components")
_VERSION = re.compile(rf"({'|'.join(_ASSETS)})/\*/versions/\*")
_REFERENCE = re.compile(r"(?:azureml:|.*/data/)(?P<name>[^:/]+)(?::|/versions/)(?P<version>[^:/]+)")
_UNANSWERED = {"missed": "not recorded", "refused": "refused"}
_LIST_PACKAGES = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
)


class _NotSeen(Exception):
    """The story ended before."""


@dataclass
class Seen:
    """Everything that is there to look at.

    Attributes:
        subject: what is rehearsed.
        folder: of the rehearsal.
        canary: the key in the environment of whoever submits.
        verification: what `verify` found.
        interpreter: the Python of the steps.
        storage: the blobs.
        door: the deployment.
        twin: the workspace.
        first: how many requests the first submission took; None before it has ended.
        asked: what the deployment counted in it, as `ReplayServer` does; None before it has ended.
        read: URI → what was read there.
    """

    subject: Subject
    folder: Path
    canary: str
    verification: JsonObject | None = None
    interpreter: Path | None = None
    storage: Azurite | None = None
    door: ReplayServer | None = None
    twin: Twin | None = None
    first: int | None = None
    asked: Counter[str] | None = None
    read: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def local(self) -> Path:
        """The run folder of the run on this machine."""
        return self.folder / "local"

    @property
    def job(self) -> Path:
        """The run folder of the submission."""
        return self.folder / "job"

    @property
    def workspace_config(self) -> Path:
        """The twin's `config.json`."""
        return self.folder / "config.json"

    def requests(self) -> list[Recorded]:
        """Those that the twin answered."""
        if self.twin is None:
            raise _NotSeen
        return list(self.twin.requests)

    def sent(self, route: str) -> list[Recorded]:
        """What was put there by the first submission, or what came of it."""
        found = [kept for kept in self.requests()[: self.first] if _was_put(kept) and kept.route == route]
        if not found:
            raise _NotSeen
        return found

    def job_body(self) -> JsonObject:
        """The properties of the submitted job."""
        body: JsonObject = self.sent("jobs/*")[0].body["properties"]
        return body

    def jobs(self) -> list[Run]:
        """Every job that was submitted."""
        names = [kept.path.rpartition("/")[2] for kept in self.requests() if _was_put(kept) and kept.route == "jobs/*"]
        assert self.twin is not None
        return [self.twin.job(name) for name in names]

    def steps(self) -> dict[str, Run]:
        """The steps of the first job, by name."""
        jobs = self.jobs()
        if not jobs:
            raise _NotSeen
        return {step.display_name: step for step in jobs[0].children}

    def blobs(self, uri: str) -> dict[str, bytes]:
        """Path → content of everything at a URI."""
        from mmlu_pipe.rehearsal.datastores import Stores

        if self.twin is None or self.storage is None:
            raise _NotSeen
        if uri not in self.read:
            stores = Stores(self.twin.workspace, self.storage)
            with tempfile.TemporaryDirectory() as temporary, suppress(FileNotFoundError):
                self.read[uri] = {
                    path.relative_to(temporary).as_posix(): path.read_bytes()
                    for path in stores.read(stores.place(uri), Path(temporary))
                }
        return self.read.get(uri, {})

    def step_logs(self) -> dict[str, bytes]:
        """Name of a step → what it said."""
        from mmlu_pipe.rehearsal.workspace import ARTIFACT_STORE

        assert self.twin is not None
        assert self.storage is not None
        container = self.twin.workspace.containers[ARTIFACT_STORE]
        try:
            steps = self.steps()
        except _NotSeen:
            return {}
        return {
            name: b"".join(self.storage.get(container, blob) for blob in step.logs.values())
            for name, step in steps.items()
        }


def kinds_of(requests: Iterable[Recorded]) -> dict[str, int]:
    """Kind of request → how many there were, in words for people."""
    return dict(Counter(_kind(kept) for kept in requests).most_common())


def proofs(seen: Seen) -> list[Proof]:
    """Everything that a rehearsal proves, as far as the story went."""
    return [Proof(name, *_judged(judge, seen)) for name, judge in _proofs(seen)]


def _judged(judge: Callable[[Seen], tuple[bool, str]], seen: Seen) -> tuple[bool | None, str]:
    try:
        return judge(seen)
    except _NotSeen:
        return None, "not reached"


def _proofs(seen: Seen) -> Iterator[tuple[str, Callable[[Seen], tuple[bool, str]]]]:
    if seen.subject.config.gate:
        yield "gate", _gate
    yield "package", _package
    yield "program", lambda seen: _input(seen, "guidance_program", seen.subject.program)
    yield "dataset", lambda seen: _input(seen, "input_dataset", seen.subject.dataset)
    yield "environment", _environment
    yield "commands", _commands
    yield "identity", _identity
    yield "answers", _answers
    yield "output.jsonl", lambda seen: _equal(seen, "output.jsonl")
    yield "errors.jsonl", lambda seen: _equal(seen, "errors.jsonl")
    yield "score.json", lambda seen: _equal(seen, "score.json")
    yield "again", _again
    yield "secrets", _secrets
    yield "network", _network


# The proofs, in the order of the story


def _gate(seen: Seen) -> tuple[bool, str]:
    found = seen.verification
    if found is None:
        raise _NotSeen
    return bool(found["passed"]), f"{len(found['covered'])} lines replayed, {found['rendered']} rendered"


def _package(seen: Seen) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory() as temporary:
        write_snapshot(Path(temporary))
        files = (path for path in Path(temporary).rglob("*") if path.is_file())
        expected = {path.relative_to(temporary).as_posix(): path.read_bytes() for path in files}
    for code in {str(kept.body["properties"]["codeUri"]) for kept in seen.sent("codes/*/versions/*")}:
        found = seen.blobs(code)
        strange = sorted(name for name in found | expected if found.get(name) != expected.get(name))
        if strange:
            return False, f"{len(strange)} files are not as they are here, the first: {strange[0]}"
    return True, f"{len(expected)} files, byte-equal to the ones here"


def _input(seen: Seen, port: str, expected: Path) -> tuple[bool, str]:
    bound = seen.job_body()["jobs"][ASKS]["inputs"].get(port) or {}
    reference = _REFERENCE.fullmatch(str(bound.get("uri")))
    if reference is None:
        return False, f"{port} of the step is no data asset: {bound.get('uri')}"
    path = f"/data/{reference['name']}/versions/{reference['version']}"
    assets = [kept for kept in seen.sent("data/*/versions/*") if kept.path.endswith(path)]
    content = seen.blobs(str(assets[-1].body["properties"]["dataUri"])) if assets else {}
    equal = list(content.values()) == [expected.read_bytes()]
    version = f"{reference['name']}:{reference['version'][:8]}"
    return equal, f"{version}, {'byte-equal' if equal else f'but not with the bytes of {expected.name}'}"


def _environment(seen: Seen) -> tuple[bool, str]:
    import yaml

    conda = seen.sent("environments/*/versions/*")[0].body["properties"].get("condaFile")
    wanted: list[str] = next(
        each["pip"] for each in yaml.safe_load(conda)["dependencies"] if isinstance(each, dict) and "pip" in each
    )
    listed = subprocess.run([str(seen.interpreter), "-c", _LIST_PACKAGES], capture_output=True, check=True)  # noqa: S603
    there = {_normalised(name): version for name, version in json.loads(listed.stdout).items()}
    pins = [pin.partition("==")[::2] for pin in wanted if "==" in pin]
    strange = [f"{name} {version}" for name, version in pins if there.get(_normalised(name)) != version]
    if strange:
        return False, f"the steps' Python lacks {len(strange)} of the pins, the first: {strange[0]}"
    if "mmlu-pipe" in there:
        return False, "the steps' Python has mmlu_pipe installed, so it proves nothing of the code sent"
    states = {name: step.status for name, step in seen.steps().items()}
    if states != dict.fromkeys((ASKS, SCORES), "Completed"):
        return False, f"{len(pins)} pins, but {', '.join(f'{name} is {state}' for name, state in states.items())}"
    return True, f"{len(pins)} pins; both components ran on exactly these"


def _commands(seen: Seen) -> tuple[bool, str]:
    job, values = seen.job_body(), 0
    for name, step in seen.steps().items():
        if step.command is None:
            return False, f"{name} did not start: {_message(step.error)}"
        if "${{" in step.command or "$[[" in step.command:
            return False, f"{name}: an expression is left in its command"
        for port, bound in (job["jobs"][name].get("inputs") or {}).items():
            literal = bound.get("value") if bound.get("job_input_type") == "literal" else None
            if literal is not None and "${{" not in str(literal):
                values += 1
                if not re.search(rf"--{port}='?{re.escape(str(literal))}'?(\s|$)", step.command):
                    return False, f"{name}: {port} is not {literal!r} in its command"
    return True, f"{values} literal values in their places, no expression left"


def _identity(seen: Seen) -> tuple[bool, str]:
    identity = seen.subject.config.identity
    body = seen.job_body()["jobs"][ASKS].get("identity") or {}
    kind = str(body.get("identity_type") or body.get("identityType"))
    client_id = str(body.get("client_id") or body.get("clientId") or "")
    if seen.door is None or not seen.door.callers:
        return False, f"{kind} in the job, but nobody asked the deployment with a token"
    wanted_kind = "UserIdentity" if identity == "user" else "Managed"
    wanted_id = "" if identity in IDENTITIES else identity
    types = {idtyp for idtyp, _ in seen.door.callers}
    ids = {appid for _, appid in seen.door.callers}
    holds = kind == wanted_kind and client_id == wanted_id and types == {"user" if identity == "user" else "app"}
    holds = holds and (not wanted_id or ids == {wanted_id})
    shown = {"user": "the submitting user", "managed": "the compute's identity"}.get(identity, "the assigned identity")
    tokens = ", ".join(sorted(types))
    return holds, f"{kind} in the job; asked as {shown if holds else tokens}"


def _answers(seen: Seen) -> tuple[bool, str]:
    asked = seen.asked
    if asked is None:
        raise _NotSeen
    told = [f"{asked['asked']} requests, {asked['played']} answered by their recordings"]
    told += [f"{asked[what]} {words}" for what, words in _UNANSWERED.items() if asked[what]]
    return asked["asked"] == asked["played"] > 0, ", ".join(told)


def _equal(seen: Seen, name: str) -> tuple[bool, str]:
    if seen.first is None:
        raise _NotSeen
    difference = first_difference(seen.local / name, seen.job / name)
    if difference:
        return False, difference
    return True, f"{(seen.job / name).stat().st_size:,} bytes, equal to the local run's"


def _again(seen: Seen) -> tuple[bool, str]:
    if seen.first is None or not (seen.folder / "again.log").is_file():
        raise _NotSeen
    kinds = Counter(_kind(kept) for kept in seen.requests()[seen.first :] if _was_put(kept))
    uploads, jobs = kinds["PUT blobs"], kinds["PUT jobs"]
    versions = sum(kinds[f"PUT {kind}"] for kind in _ASSETS)
    told = f"{uploads} uploads, {versions} new versions, {jobs} new job"
    if seen.subject.config.version_scheme == "epoch":
        return jobs == 1, f"{told}, as --version-scheme epoch has it"
    return (uploads, versions, jobs) == (0, 0, 1), told


def _secrets(seen: Seen) -> tuple[bool, str]:
    if seen.twin is None:
        raise _NotSeen
    seen.sent("jobs/*")
    kept = seen.requests()
    needles = (seen.canary, seen.twin.identity.client_secret)
    texts = (json.dumps(vars(request), ensure_ascii=False) for request in kept)
    logs = (content.decode("utf-8", "replace") for content in seen.step_logs().values())
    commands = (step.command or "" for step in seen.steps().values())
    leaked = sum(any(needle in text for needle in needles) for text in (*texts, *logs, *commands))
    told = f"none in {len(kept)} requests, the commands and the logs"
    return not leaked, f"{leaked} requests, commands or logs hold a secret" if leaked else told


def _network(seen: Seen) -> tuple[bool, str]:
    kept = seen.requests()
    if not kept:
        raise _NotSeen
    strangers = sorted({request.host for request in kept if request.method == "CONNECT" and request.status == 502})
    if strangers:
        return False, f"asked for hosts that no workspace has: {', '.join(strangers)}"
    return True, f"{len(kept)} requests to {len({request.host for request in kept})} hosts, and to no other"


# Requests


def _was_put(kept: Recorded) -> bool:
    return kept.method == "PUT" and kept.status in (200, 201)


def _kind(kept: Recorded) -> str:
    if found := _VERSION.fullmatch(kept.route):
        return f"{kept.method} {found[1]}"
    named = {"jobs/*": "jobs", "blob/*/*": "blobs", "blob/*": "blobs"}.get(kept.route)
    if named is None:
        named = "tokens" if re.search(r"token|^msi/|^obo/", kept.route) else "others"
    return f"{kept.method} {named}"


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _message(error: Mapping[str, Any] | None) -> str:
    return str(((error or {}).get("error") or {}).get("message"))
