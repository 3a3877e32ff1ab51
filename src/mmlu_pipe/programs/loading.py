"""Load and check a guidance program: a Python file with `guidance_generation(lm, input) -> dict`.

Beyond these two, the function may take the examples as a third argument, and options as keyword-only parameters with
a default. A function `guidance_check(input) -> None` beside it, which takes the same but `lm`, may refuse a line by an
exception before anything is asked.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmlu_pipe.bundled import bundled_program, bundled_programs
from mmlu_pipe.errors import ConfigError, ProgramError
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.programs.examples import ExampleSet
from mmlu_pipe.programs.options import Option, settled
from mmlu_pipe.records import JsonObject

__all__ = ["ENTRY_POINT", "Program", "line_in", "load_program", "locate_program", "place_in"]

ENTRY_POINT = "guidance_generation"
CHECK = "guidance_check"
_EXAMPLES = "examples"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MODULE = "mmlu_pipe_guidance_program"
_loading = threading.RLock()


@dataclass(frozen=True)
class Program:
    """A loaded guidance program, with its examples and options.

    Attributes:
        path: its file.
        function: answers a line: (model, line) → what the program returns.
        check: raises where the program cannot do with a line; None if it has nothing to say beforehand.
        options: every option that it has → its value.
        examples: the file of the examples that it is handed; None where it takes none.
    """

    path: Path
    function: Callable[[Any, JsonObject], Any]
    check: Callable[[JsonObject], Any] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    examples: Path | None = None

    @property
    def shows_examples(self) -> bool:
        """Whether it is handed examples."""
        return self.examples is not None

    @property
    def sha256(self) -> str:
        """Hash of the file."""
        return sha256_file(self.path)


def locate_program(name_or_path: str) -> Path:
    """The file of a program named by path, or by the name of a bundled one.

    Raises:
        ProgramError: there is neither.
    """
    path = Path(name_or_path)
    with suppress(OSError):  # a name that no file can have
        if path.is_file():
            return path
    bundled = bundled_program(name_or_path)
    if bundled is None:
        names = ", ".join(bundled_programs())
        raise ProgramError(f"{name_or_path}: no such file, and no bundled program of that name ({names})", path=path)
    return bundled


def load_program(path: Path, options: Mapping[str, object] | None = None, examples: Path | None = None) -> Program:
    """Load a program as a cluster will: alone, with neither its siblings nor the working folder importable.

    Args:
        path: its file.
        options: values for options that it has, of their own type or as texts.
        examples: a JSONL file; not read where the program takes none.

    Raises:
        ProgramError: it cannot be read or imported, or has no usable entry point.
        ConfigError: an option is not the program's, or it needs examples.
        DatasetError: the examples cannot be read.
    """
    if not path.is_file():
        raise ProgramError(f"{path}: no such guidance program", path=path)
    try:
        with _alone(path):
            module = _executed(path)
            function = getattr(module, ENTRY_POINT, None)
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else line_in(path, error)
        hint = ""
        if isinstance(error, ImportError):
            hint = "; a program stands alone: it may import installed packages only"
        elif isinstance(error, AttributeError) and "guidance.models" in str(error):  # such as the tutorial's Chat
            hint = "; guidance has no such class any more: leave the model's class out, see docs/migrating.md"
        told = f"{path}:{line}" if line else str(path)
        raise ProgramError(f"{told}: cannot be imported ({type(error).__name__}: {error}){hint}", path=path) from error
    if not callable(function):
        raise ProgramError(f"{path}: has no function {ENTRY_POINT}(lm, input) -> dict; define it", path=path)
    if inspect.iscoroutinefunction(function):
        raise ProgramError(f"{path}: {ENTRY_POINT} is async; make it a plain function", path=path)
    needs = _needs_examples(function, path)
    found = settled(function, options or {}, program=path.name)
    if needs and examples is None:
        raise ConfigError(f"{path.name} shows examples: name a dataset of them with --examples", key="examples")
    shown = ExampleSet(examples) if needs is not None and examples is not None else None
    check = getattr(module, CHECK, None)
    if check is not None:
        if inspect.iscoroutinefunction(check):
            raise ProgramError(f"{path}: {CHECK} is async; make it a plain function", path=path)
        _refuse_another_signature(check, ({}, ()) if shown else ({},), found, path)
    return Program(
        path,
        _answering(function, shown, found),
        check and _checking(check, shown, found),
        found,
        None if shown is None else examples,
    )


def _needs_examples(function: Callable[..., Any], path: Path) -> bool | None:
    """Whether a program must be handed examples; None where it takes none."""
    try:
        signature = inspect.signature(function)
        keyword = signature.parameters.get(_EXAMPLES)
        if keyword is not None and keyword.kind is inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{_EXAMPLES} must be its third argument, not a keyword-only one")
        positional = [each for each in signature.parameters.values() if each.kind in _POSITIONAL]
        third = positional[2] if len(positional) > 2 else None
        needs = third is not None and third.default is inspect.Parameter.empty
        signature.bind(*((object(), {}, ()) if needs else (object(), {})))
    except (TypeError, ValueError) as error:
        raise ProgramError(
            f"{path}: {ENTRY_POINT} must take (lm, input) or (lm, input, examples): {error}", path=path
        ) from error
    return needs if needs or (third is not None and third.name == _EXAMPLES) else None


def _refuse_another_signature(
    check: Any, arguments: tuple[object, ...], options: Mapping[str, Option], path: Path
) -> None:
    try:
        inspect.signature(check).bind(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ProgramError(
            f"{path}: {CHECK} must take what {ENTRY_POINT} takes, without lm: {error}", path=path
        ) from error


def _answering(
    function: Callable[..., Any], examples: ExampleSet | None, options: Mapping[str, Option]
) -> Callable[[Any, JsonObject], Any]:
    if examples is None:
        return functools.partial(function, **options) if options else function
    return lambda lm, line: function(lm, line, examples.of(line), **options)


def _checking(
    check: Callable[..., Any], examples: ExampleSet | None, options: Mapping[str, Option]
) -> Callable[[JsonObject], Any]:
    if examples is None:
        return functools.partial(check, **options)
    return lambda line: check(line, examples.of(line), **options)


def line_in(path: Path, failure: BaseException) -> int | None:
    """The innermost line of a program that an exception passed through, None where it did not."""
    files = {str(path), str(path.absolute())}
    lines = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename in files]
    return lines[-1] if lines else None


def place_in(path: Path, failure: BaseException) -> str:
    """Name of a program's file, with the line that an exception passed through, if it did."""
    line = line_in(path, failure)
    return path.name + (f":{line}" if line else "")


def _executed(path: Path) -> object:
    loader = importlib.machinery.SourceFileLoader(_MODULE, str(path))  # whatever the file's suffix
    spec = importlib.util.spec_from_file_location(_MODULE, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # guidance and dataclasses look their module up by name
    loader.exec_module(module)
    return module


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hide what lies in the program's folder and in the working folder, also where it was imported before."""
    local = {Path.cwd(), Path.cwd().resolve(), path.absolute().parent, path.resolve().parent}
    with _loading:
        saved_path, saved_bytecode = sys.path[:], sys.dont_write_bytecode
        tops = {name for name, module in list(sys.modules.items()) if "." not in name and _lies_in(local, module)}
        tops -= {"__main__", "mmlu_pipe", _MODULE}
        hidden = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in tops}
        sys.path[:] = [entry for entry in saved_path if entry and Path(entry).resolve() not in local]
        sys.dont_write_bytecode = True
        for name in hidden:
            del sys.modules[name]
        try:
            yield
        finally:
            sys.path[:] = saved_path
            sys.dont_write_bytecode = saved_bytecode
            sys.modules.update(hidden)


def _lies_in(folders: set[Path], module: Any) -> bool:
    """Whether a module, or the folder of a package, lies directly in one of the folders."""
    names = getattr(module, "__dict__", {})  # not getattr on the module, which may import to answer
    places = list(names.get("__path__") or ()) or [names.get("__file__")]
    return any(isinstance(place, str) and Path(place).parent in folders for place in places)
