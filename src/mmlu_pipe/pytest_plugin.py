"""pytest plugin: tests that replay a cassette, with no network (docs/testing.md); it loads only pytest itself."""

from __future__ import annotations

import copy
import json
import shlex
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

if TYPE_CHECKING:
    from guidance.models import Model

    from mmlu_pipe import Call, Run

_USAGE = (
    "mmlu_cassette(folder, *, program='zero_shot', other_config=None, must_play_all=False, **asking): answers come "
    "from the cassette in this folder, named relative to the test file, and the network is forbidden"
)
_ASKING = ("select_strategy", "seed", "reasoning_effort", "stream", "require")
_PathLike = str | Path
_NewLine = Callable[[object], tuple[Any, Any]]  # a line's subject → its model and its session
_CASE = pytest.StashKey["_Case"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options of a session that records."""
    group, modes = parser.getgroup("mmlu_pipe"), ("none", "once", "new_episodes", "all")
    group.addoption("--mmlu-record-mode", choices=modes, default="none", help="record into the cassettes of the tests")
    group.addoption("--mmlu-other-config", metavar="FILE", help="whom to ask while recording: JSON of the aoai_* keys")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; refuse to record from several processes at once."""
    config.addinivalue_line("markers", _USAGE)
    if config.option.mmlu_record_mode != "none" and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--mmlu-record-mode records from one process only; add -n 0")


class _Case:
    """One marked test, made from the marker's arguments: where its answers come from, and what it has asked."""

    def __init__(self, item: pytest.Item, folder: _PathLike, **options: Any) -> None:
        self.item, self.where = item, f"{item.nodeid}: @pytest.mark.mmlu_cassette({str(folder)!r})"
        self.folder = item.path.parent / folder
        self.mode: str = item.config.option.mmlu_record_mode
        self.program: _PathLike = options.pop("program", "zero_shot")
        self.must_play_all: bool = options.pop("must_play_all", False)
        config = options.pop("other_config", None)
        self.other_config = item.path.parent / config if config else None
        if self.mode != "none" and (asked := item.config.option.mmlu_other_config):
            self.other_config = item.config.invocation_params.dir / asked
        for name in options.keys() - set(_ASKING):
            raise TypeError(f"got an unexpected keyword argument {name!r}; asking may be {', '.join(_ASKING)}")
        self.options = options | {"cassette": self.folder, "record_mode": self.mode}
        self.lines: list[Sequence[Call]] = []  # the calls of each line so far
        self._refused, self._guarded = list[str](), self.mode != "none"
        recorded = ("pytest", item.path.name, "--mmlu-record-mode", self.mode, "--mmlu-other-config", "FILE")
        self.command = shlex.join(recorded)
        command = f"pytest {shlex.quote(item.nodeid)} --mmlu-record-mode new_episodes --mmlu-other-config FILE"
        self.advice = f"To record the answers that it needs: {command}"
        if self.mode != "none" and self.other_config is None:
            self.stop(f"--mmlu-record-mode {self.mode} needs --mmlu-other-config FILE, which says whom to ask")
        if self.mode == "none" and not any(self.folder.glob("*.yaml")):
            self.stop(f"there are no recordings in {self.folder}")

    def path(self, name: _PathLike) -> str:
        """A file beside the test, or the name as it was given."""
        beside = self.item.path.parent / name
        return str(beside if beside.is_file() else name)

    def stop(self, text: str, pytrace: bool = False) -> NoReturn:
        raise pytest.fail.Exception(f"{self.where}: {text}. {self.advice}", pytrace) from None

    def forbid_network(self) -> None:
        """Refuse connections until this test and its own fixtures are done; does nothing while answers are recorded."""
        if self._guarded:
            return
        self._guarded = True
        patch = pytest.MonkeyPatch()
        self.item.addfinalizer(patch.undo)
        for owner, names in ((socket.socket, ("connect", "connect_ex", "sendto")), (socket, ("getaddrinfo",))):
            for name in names:
                patch.setattr(owner, name, self._guard(getattr(owner, name)))

    def _guard(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(subject: Any, *args: Any, **kwargs: Any) -> Any:
            if _stays_inside(subject):
                return original(subject, *args, **kwargs)
            if isinstance(subject, socket.socket):
                subject.close()  # whoever opened it reckons with an OSError only
            self._refused.append(f"{original.__name__} {args[-1] if isinstance(subject, socket.socket) else subject!r}")
            return self.stop(f"the network is forbidden in this test; {self._refused[-1]} was refused", pytrace=True)

        return guarded

    def finish(self) -> None:
        """Fail a test that passed although it tried the network, or left recordings unplayed."""
        if self._refused:
            self.stop(f"the network is forbidden in this test; {self._refused[0]} was refused, and that was hidden")
        if not self.must_play_all:
            return
        from mmlu_pipe.recording.order import shard_paths
        from mmlu_pipe.recording.shards import read_shard

        left, played = [], Counter[str]()
        for calls in self.lines:
            played |= Counter(call.request_hash for call in calls)  # lines share the recordings of equal requests
        shards = shard_paths(self.folder).values()
        for name, each in ((path.name, each) for path in shards for each, _ in read_shard(path).items):
            if played[each.identity] <= 0:
                left.append(f"\n  {name}: {json.loads(each.request_body)['messages'][-1].get('content')!r:.90}")
            played[each.identity] -= 1
        if left:
            self.stop(f"must_play_all: recordings left unplayed: {len(left)}; the first are{''.join(left[:3])}\n")


def _stays_inside(subject: Any) -> bool:
    """Whether a host needs no look-up, or a socket is a Unix one or of socketpair(), which needs loopback without."""
    if not isinstance(subject, socket.socket):
        name = subject.decode() if isinstance(subject, bytes) else subject or "localhost"
        return name == "localhost" or ":" in name or name.replace(".", "").isdigit()
    pair = sys._getframe(2).f_code.co_name in ("socketpair", "_fallback_socketpair")
    return pair or subject.family == getattr(socket, "AF_UNIX", None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Read the closest marker."""
    if mark := item.get_closest_marker("mmlu_cassette"):
        try:
            item.stash[_CASE] = _Case(item, *mark.args, **mark.kwargs)
        except TypeError as error:
            raise pytest.fail.Exception(f"{item.nodeid}: {error}; use @pytest.mark.{_USAGE}", False) from None


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> None:
    """Forbid the network from the first fixture that is a marked test's own; those of wider scope keep it."""
    if case := request.node.stash.get(_CASE, None):
        case.forbid_network()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Guard a marked test, and judge it at the end."""
    if (case := item.stash.get(_CASE, None)) is None:
        return (yield)
    from mmlu_pipe.errors import CassetteMiss

    case.forbid_network()
    try:
        result = yield
    except CassetteMiss as miss:
        miss.add_note(case.advice)
        raise
    case.finish()
    return result


@pytest.fixture
def _mmlu_case(request: pytest.FixtureRequest) -> _Case:
    if case := request.node.stash.get(_CASE, None):
        return cast("_Case", case)
    pytest.fail(f"{request.node.nodeid}: the mmlu_ fixtures need {_USAGE}", pytrace=False)


@pytest.fixture
def _mmlu_new_line(_mmlu_case: _Case) -> Iterator[_NewLine]:
    from mmlu_pipe.config import load_endpoint
    from mmlu_pipe.endpoint.connect import ModelOptions, connect
    from mmlu_pipe.endpoint.interpreter import model_for_line
    from mmlu_pipe.endpoint.session import LineSession
    from mmlu_pipe.errors import MmluPipeError
    from mmlu_pipe.recording.provenance import keep_provenance

    case = _mmlu_case

    def new_line(subject: object) -> tuple[Model, LineSession]:
        session = LineSession(len(case.lines) + 1, shard=str(subject or "default"))
        case.lines.append(session.calls)
        return model_for_line(connection.model, session), session

    try:
        endpoint = load_endpoint(case.other_config) if case.other_config else None
        with connect(endpoint, ModelOptions(**case.options)) as connection:
            yield new_line
        if connection.cassette and connection.cassette.recorded:
            served = Counter(call.served_model for calls in case.lines for call in calls)
            facts = connection.facts | {"served_models": served}
            keep_provenance(connection.cassette, endpoint=connection.endpoint, facts=facts, command=case.command)
    except MmluPipeError as error:
        case.stop(str(error))


@pytest.fixture
def mmlu_model(_mmlu_new_line: _NewLine) -> Model:
    """A guidance model that answers from the test's cassette; all that is asked of it counts as one line."""
    model: Model = _mmlu_new_line(None)[0]
    return model


@pytest.fixture
def mmlu_run_line(_mmlu_case: _Case, _mmlu_new_line: _NewLine) -> Callable[..., dict[str, Any]]:
    """`mmlu_run_line(line, program=None, examples=None, **options)`: the keys that a program adds to one line."""
    from mmlu_pipe.dataset.locate import locate
    from mmlu_pipe.engine.contract import checked_outputs, refuse_hidden_failures
    from mmlu_pipe.programs import load_program, locate_program

    def run_line(
        line: Mapping[str, Any],
        program: _PathLike | None = None,
        examples: _PathLike | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        shown = None if examples is None else locate(_mmlu_case.path(examples), _mmlu_case.item.path.parent)
        loaded = load_program(locate_program(_mmlu_case.path(program or _mmlu_case.program)), options, shown)
        model, session = _mmlu_new_line(line.get("subject"))
        outputs = loaded.function(model, copy.deepcopy(dict(line)))
        refuse_hidden_failures(session, loaded)
        return checked_outputs(outputs, dict(line), where=f"{loaded.path.name}: guidance_generation", path=loaded.path)

    return run_line


@pytest.fixture
def mmlu_run_file(_mmlu_case: _Case, tmp_path: Path) -> Callable[..., Run]:
    """`mmlu_run_file(dataset, program=None, **options)`: the completed run of the whole pipeline on a dataset."""
    from mmlu_pipe.api import run
    from mmlu_pipe.jsonl import read_objects
    from mmlu_pipe.records import Call

    case = _mmlu_case

    def run_file(dataset: _PathLike, program: _PathLike | None = None, **options: Any) -> Run:
        own = {"output_dir": tmp_path / f"mmlu-run-{len(case.lines)}", "other_config": case.other_config}
        options = own | case.options | options
        try:
            return run(case.path(dataset), case.path(program or case.program), **options)
        finally:
            path = Path(options["output_dir"], "calls.jsonl")
            calls = [Call(**call) for _, call in read_objects(path)] if path.is_file() else []
            case.lines += [list(line) for _, line in groupby(calls, lambda call: call.line_number)]

    return run_file


@pytest.fixture
def mmlu_calls(_mmlu_case: _Case) -> Callable[[], list[Call]]:
    """`mmlu_calls()`: the model calls that the test has made so far, line by line."""
    return lambda: [call for calls in _mmlu_case.lines for call in calls]
