"""Load and check a guidance program: a Python file with `guidance_generation(lm, input) -> dict`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.bundled import bundled_program, bundled_programs
from mmlu_pipe.errors import ProgramError
from mmlu_pipe.hashing import sha256_file

__all__ = ["ENTRY_POINT", "Program", "load_program", "locate_program"]

ENTRY_POINT = "guidance_generation"
_MODULE = "mmlu_pipe_guidance_program"


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
    spec = importlib.util.spec_from_file_location(_MODULE, path, loader=None)
    if spec is None or spec.loader is None:
        loader = importlib.machinery.SourceFileLoader(_MODULE, str(path))
        spec = importlib.util.spec_from_file_location(_MODULE, path, loader=loader)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    saved_path, saved_bytecode = sys.path[:], sys.dont_write_bytecode
    sys.path[:] = _without_local_folders(sys.path, path)
    sys.dont_write_bytecode = True
    sys.modules[_MODULE] = module  # guidance and dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise ProgramError(
            f"{path}: cannot be imported ({error}); a program stands alone: it may import installed packages only",
            path=path,
        ) from error
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        line = error.lineno if isinstance(error, SyntaxError) else place.lineno
        raise ProgramError(f"{path}:{line}: cannot be imported ({type(error).__name__}: {error})", path=path) from error
    finally:
        sys.path[:] = saved_path
        sys.dont_write_bytecode = saved_bytecode
    function = getattr(module, ENTRY_POINT, None)
    if not callable(function):
        raise ProgramError(f"{path}: has no function {ENTRY_POINT}(lm, input) -> dict; define it", path=path)
    try:
        inspect.signature(function).bind(object(), {})
    except TypeError as error:
        raise ProgramError(f"{path}: {ENTRY_POINT} must take (lm, input): {error}", path=path) from error
    return Program(path, function)


def _without_local_folders(entries: list[str], program: Path) -> list[str]:
    local = {Path.cwd().resolve(), program.resolve().parent}
    return [entry for entry in entries if entry and Path(entry).resolve() not in local]
