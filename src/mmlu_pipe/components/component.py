"""The declaration of a component: one typed function from which everything else derives.

The in-process call, the command line `python -m mmlu_pipe.components.<name> --port value …` and what a cloud
backend renders all read the same `Component`, so they cannot drift apart.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import signal
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Never

from mmlu_pipe.errors import ConfigError, MmluPipeError

__all__ = ["Component", "Input", "Output", "Port", "component"]

PortType = Literal["uri_file", "uri_folder", "string", "integer", "number", "boolean"]
_SCALARS: dict[type, PortType] = {str: "string", bool: "boolean", int: "integer", float: "number"}

_PYTHON_TYPES: dict[PortType, type | tuple[type, ...]] = {
    "uri_file": Path,
    "uri_folder": Path,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


@dataclass(frozen=True)
class Input:
    """Annotation of an input: `Annotated[Path, Input("what it is")]`; `folder` for a folder of files."""

    description: str
    folder: bool = False


@dataclass(frozen=True)
class Output:
    """Annotation of an output.

    Attributes:
        description: what it is.
        file_name: used where the given path of a file is a folder.
        folder: a folder of files.
        local: only where the disk stays; a cloud backend leaves it out.
    """

    description: str
    file_name: str | None = None
    folder: bool = False
    local: bool = False


@dataclass(frozen=True)
class Port:
    """One input or output of a component, derived from a parameter of its function."""

    name: str
    type: PortType
    direction: Literal["input", "output"]
    description: str
    optional: bool
    default: str | int | float | bool | None
    file_name: str | None = None
    local: bool = False

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return not self.optional and self.default is None

    def check(self, value: object) -> None:
        """Refuse a value of another type.

        Raises:
            ConfigError: naming the port and its type.
        """
        wanted = _PYTHON_TYPES[self.type]
        if not isinstance(value, wanted) or (isinstance(value, bool) and self.type != "boolean"):
            raise ConfigError(f"{self.name} must be a {self.type}, not {type(value).__name__}", key=self.name)

    def parse(self, text: str) -> Path | str | int | float | bool:
        """The typed value of one command line argument.

        Raises:
            ConfigError: the text does not fit the port's type.
        """
        try:
            match self.type:
                case "uri_file" | "uri_folder":
                    return Path(text)
                case "integer":
                    return int(text)
                case "number":
                    return float(text)
                case "boolean":
                    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
                case "string":
                    return text
        except (ValueError, KeyError) as error:
            raise ConfigError(f"--{self.name}: {text!r} is no {self.type}", key=self.name) from error


@dataclass(frozen=True)
class Component:
    """A declared component; calling it calls its function with checked ports."""

    name: str
    display_name: str
    description: str
    deterministic: bool
    ports: tuple[Port, ...]
    function: Callable[..., None]

    @property
    def module(self) -> str:
        """The module that `python -m` runs; inside such a run it calls itself `__main__`."""
        name = self.function.__module__
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        return spec.name if name == "__main__" and spec is not None else name

    def __call__(self, **values: Any) -> None:
        """Run in this process.

        Raises:
            ConfigError: an unknown port, or a required one without a value.
        """
        known = {port.name: port for port in self.ports}
        for name in values:
            if name not in known:
                raise ConfigError(f"{self.name} has no port {name!r}; it has {', '.join(known)}", key=name)
        for port in self.ports:
            if values.get(port.name) is None and port.required:
                raise ConfigError(f"{self.name} needs --{port.name}: {port.description}", key=port.name)
            if values.get(port.name) is not None:
                port.check(values[port.name])
        given = {name: self._placed(known[name], value) for name, value in values.items() if value is not None}
        self._refuse_overwriting(given)
        self.function(**given)

    def arguments(self, values: Mapping[str, Any]) -> list[str]:
        """The command line arguments that hand over `values`, in port order."""
        found: list[str] = []
        for port in self.ports:
            value = values.get(port.name)
            if value is not None:
                text = str(value).lower() if isinstance(value, bool) else str(value)
                found.append(f"--{port.name}={text}")
        return found

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run from a command line and return the exit code; expected failures print one message."""
        previous = signal.signal(signal.SIGTERM, _terminate)
        log, handler = logging.getLogger("mmlu_pipe"), logging.StreamHandler(sys.stderr)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            self(**self._parse(argv))
        except MmluPipeError as error:
            sys.stderr.write(f"error: {error}\n")
            return error.exit_code
        except KeyboardInterrupt as stop:
            number = signal.Signals(getattr(stop, "signal_number", signal.SIGINT))
            sys.stderr.write(f"error: stopped by {number.name}\n")
            return 128 + number
        finally:
            log.removeHandler(handler)
            signal.signal(signal.SIGTERM, previous)
        return 0

    def _parse(self, argv: Sequence[str] | None) -> dict[str, Any]:
        parser = _Parser(prog=f"python -m {self.module}", description=self.description, allow_abbrev=False)
        for port in self.ports:
            default = "" if port.default is None else f" (default: {port.default})"
            parser.add_argument(
                f"--{port.name}",
                required=port.required,
                metavar=port.type,
                help=(port.description + default).replace("%", "%%"),
            )
        texts = vars(parser.parse_args(argv))
        return {port.name: port.parse(texts[port.name]) for port in self.ports if texts[port.name] is not None}

    def _refuse_overwriting(self, values: Mapping[str, Any]) -> None:
        """No output may be one of the inputs, or another output."""
        taken: dict[Path, str] = {}
        for port in sorted(self.ports, key=lambda port: port.direction):  # inputs first
            if self._is_file(port, values):
                file = Path(values[port.name]).resolve()
                if port.direction == "output" and file in taken:
                    raise ConfigError(
                        f"--{port.name} would overwrite --{taken[file]}; give another path", key=port.name
                    )
                taken[file] = port.name

    @staticmethod
    def _is_file(port: Port, values: Mapping[str, Any]) -> bool:
        return port.type == "uri_file" and isinstance(values.get(port.name), Path)

    @staticmethod
    def _placed(port: Port, value: Any) -> Any:
        """An output path that is a folder gets the port's fixed file name inside it."""
        if port.file_name is not None and isinstance(value, Path) and value.is_dir():
            return value / port.file_name
        return value


def component(*, name: str, display_name: str, deterministic: bool) -> Callable[[Callable[..., None]], Component]:
    """Declare a component from a function with annotated keyword-only parameters.

    Raises:
        TypeError: a parameter has no usable annotation.
    """

    def declare(function: Callable[..., None]) -> Component:
        hints = typing.get_type_hints(function, include_extras=True)
        ports = tuple(
            _port(parameter, hints.get(parameter.name)) for parameter in inspect.signature(function).parameters.values()
        )
        description = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        return Component(name, display_name, description, deterministic, ports, function)

    return declare


def _port(parameter: inspect.Parameter, hint: Any) -> Port:
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        raise TypeError(f"port {parameter.name!r} must be keyword-only")
    if typing.get_origin(hint) is not Annotated:
        raise TypeError(f"port {parameter.name!r} needs Annotated[type, Input(…) or Output(…)]")
    base, marker = typing.get_args(hint)[:2]
    optional = type(None) in typing.get_args(base)
    if optional:
        (base,) = (member for member in typing.get_args(base) if member is not types.NoneType)
    default = None if parameter.default is inspect.Parameter.empty else parameter.default
    if isinstance(marker, Output):
        place: PortType = "uri_folder" if marker.folder else "uri_file"
        return Port(parameter.name, place, "output", marker.description, optional, None, marker.file_name, marker.local)
    if not isinstance(marker, Input):
        raise TypeError(f"port {parameter.name!r} needs Annotated[type, Input(…) or Output(…)]")
    if base is not Path and base not in _SCALARS:
        raise TypeError(f"port {parameter.name!r}: a port cannot be a {base!r}")
    kind: PortType = ("uri_folder" if marker.folder else "uri_file") if base is Path else _SCALARS[base]
    return Port(parameter.name, kind, "input", marker.description, optional, default)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        raise ConfigError(f"{message}; see {self.prog} --help")


class _Terminated(KeyboardInterrupt):
    signal_number = signal.SIGTERM


def _terminate(_signal_number: int, _frame: types.FrameType | None) -> Never:
    """SIGTERM outside of the evaluation of lines, which handles it in its own way."""
    raise _Terminated
