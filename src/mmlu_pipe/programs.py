"""Load and check a guidance program: a Python file with `guidance_generation(lm, input) -> dict`."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.bundled import bundled_program, bundled_programs
from mmlu_pipe.errors import ProgramError
from mmlu_pipe.hashing import sha256_file

__all__ = ["ENTRY_POINT", "Program", "line_in", "load_program", "locate_program"]

ENTRY_POINT = "guidance_generation"
_MODULE = "mmlu_pipe_guidance_program"
_loading = threading.RLock()


@dataclass(frozen=True)
class Program:
    """A loaded guidance program."""

    path: Path
    function: Callable[..., Any]

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
    if path.is_file():
        return path
    bundled = bundled_program(name_or_path)
    if bundled is None:
        names = ", ".join(bundled_programs())
        raise ProgramError(f"{name_or_path}: no such file, and no bundled program of that name ({names})", path=path)
    return bundled


def load_program(path: Path) -> Program:
    """Load a program as a cluster will: alone, with neither its siblings nor the working folder importable.

    Raises:
        ProgramError: it cannot be read or imported, or has no usable entry point.
    """
    if not path.is_file():
        raise ProgramError(f"{path}: no such guidance program", path=path)
    try:
        with _alone(path):
            function = getattr(_executed(path), ENTRY_POINT, None)
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
    try:
        inspect.signature(function).bind(object(), {})
    except (TypeError, ValueError) as error:
        raise ProgramError(f"{path}: {ENTRY_POINT} must take (lm, input): {error}", path=path) from error
    return Program(path, function)


def line_in(path: Path, failure: BaseException) -> int | None:
    """The innermost line of a program that an exception passed through, None where it did not."""
    files = {str(path), str(path.absolute())}
    lines = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename in files]
    return lines[-1] if lines else None


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
