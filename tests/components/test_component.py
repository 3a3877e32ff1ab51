import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest

import mmlu_pipe
from mmlu_pipe.components.component import Component, Input, Output, component
from mmlu_pipe.errors import ConfigError, EndpointError, RunCancelled

SEEN = []


@component(name="everything", display_name="Every kind of port", deterministic=True)
def everything(
    *,
    data: Annotated[Path, Input("a file of lines")],
    images: Annotated[Path | None, Input("a folder of images", folder=True)] = None,
    label: Annotated[str, Input("a name, 100 % free")] = "plain",
    tag: Annotated[str | None, Input("an optional name")] = None,
    workers: Annotated[int, Input("how many")] = 8,
    ratio: Annotated[float, Input("how much")] = 0.5,
    strict: Annotated[bool, Input("whether to be strict")] = False,
    result: Annotated[Path, Output("where the result goes", file_name="result.json")],
    extra: Annotated[Path | None, Output("where more goes", file_name="extra.jsonl")] = None,
) -> None:
    """Take one port
    of every kind.

    This paragraph is for readers of the code.
    """
    SEEN.append(dict(locals()))


def declared(function):
    return component(name="x", display_name="X", deterministic=False)(function)


@pytest.fixture(autouse=True)
def _clean():
    SEEN.clear()
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def run(*argv):
    return everything.main([str(item) for item in argv])


def port(name):
    return next(port for port in everything.ports if port.name == name)


def test_the_declaration_is_a_component_with_its_names_and_first_paragraph():
    assert isinstance(everything, Component)
    assert (everything.name, everything.display_name) == ("everything", "Every kind of port")
    assert everything.description == "Take one port of every kind."
    assert everything.deterministic is True
    assert everything.module == __name__


def test_ports_come_from_the_annotations_in_order():
    found = [(port.name, port.type, port.direction, port.optional, port.default) for port in everything.ports]
    assert found == [
        ("data", "uri_file", "input", False, None),
        ("images", "uri_folder", "input", True, None),
        ("label", "string", "input", False, "plain"),
        ("tag", "string", "input", True, None),
        ("workers", "integer", "input", False, 8),
        ("ratio", "number", "input", False, 0.5),
        ("strict", "boolean", "input", False, False),
        ("result", "uri_file", "output", False, None),
        ("extra", "uri_file", "output", True, None),
    ]
    assert port("data").description == "a file of lines"
    assert (port("data").file_name, port("result").file_name) == (None, "result.json")


def test_an_output_of_this_disk_alone_says_so():
    def function(
        *,
        notes: Annotated[Path | None, Output("for this disk alone", local=True)] = None,
        result: Annotated[Path, Output("for everybody")],
    ) -> None: ...

    assert {port.name: port.local for port in declared(function).ports} == {"notes": True, "result": False}


def test_a_positional_parameter_is_refused():
    def wrong(data: Annotated[Path, Input("a file")]) -> None: ...

    with pytest.raises(TypeError, match="'data' must be keyword-only"):
        declared(wrong)


def test_a_parameter_without_input_or_output_is_refused():
    def plain(*, data: Path) -> None: ...
    def other(*, data: Annotated[Path, "a file"]) -> None: ...

    for function in (plain, other):
        with pytest.raises(TypeError, match=r"'data' needs Annotated\[type, Input\(…\) or Output\(…\)\]"):
            declared(function)


def test_a_parameter_without_any_annotation_is_refused():
    def bare(*, data) -> None: ...

    with pytest.raises(TypeError, match="data"):
        declared(bare)


def test_a_parameter_of_a_type_that_no_port_has_is_refused():
    def lists(*, data: Annotated[list, Input("some lines")]) -> None: ...

    with pytest.raises(TypeError, match="data"):
        declared(lists)


VALUES = [
    ("data", Path("some/lines.jsonl"), "some/lines.jsonl"),
    ("images", Path("some/folder"), "some/folder"),
    ("label", "with blanks, ü and 漢", "with blanks, ü and 漢"),
    ("label", "", ""),
    ("tag", "t", "t"),
    ("workers", 12, "12"),
    ("workers", 0, "0"),
    ("ratio", 0.125, "0.125"),
    ("ratio", 1e-07, "1e-07"),
    ("strict", True, "true"),
    ("strict", False, "false"),
    ("result", Path("out.json"), "out.json"),
]


@pytest.mark.parametrize(("name", "value", "text"), VALUES)
def test_a_value_goes_to_the_command_line_and_comes_back_the_same(name, value, text):
    values = {"data": Path("d"), "result": Path("r")} | {name: value}
    argv = everything.arguments(values)
    assert f"--{name}={Path(text) if isinstance(value, Path) else text}" in argv
    assert everything.main(argv) == 0
    found = SEEN[0][name]
    assert found == value
    assert isinstance(found, type(value) if not isinstance(value, Path) else Path)


def test_arguments_keep_the_order_of_the_ports_and_leave_out_none():
    values = {"result": Path("r"), "tag": None, "strict": True, "data": Path("d")}
    assert everything.arguments(values) == ["--data=d", "--strict=true", "--result=r"]


def test_a_value_that_starts_with_a_dash_goes_to_the_command_line_and_comes_back():
    argv = everything.arguments({"data": Path("d"), "result": Path("r"), "tag": "-1x"})
    assert everything.main(argv) == 0
    assert SEEN[0]["tag"] == "-1x"


@pytest.mark.parametrize("text", ["True", "true", "TRUE", "1"])
def test_the_services_spellings_of_true_are_understood(text):
    assert port("strict").parse(text) is True


@pytest.mark.parametrize("text", ["False", "false", "0"])
def test_the_services_spellings_of_false_are_understood(text):
    assert port("strict").parse(text) is False


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("workers", "many", "--workers: 'many' is no integer"),
        ("workers", "1.5", "--workers: '1.5' is no integer"),
        ("ratio", "half", "--ratio: 'half' is no number"),
        ("strict", "yes", "--strict: 'yes' is no boolean"),
        ("strict", "", "--strict: '' is no boolean"),
    ],
)
def test_a_value_of_the_wrong_type_is_bad_usage_and_named(name, text, message, capsys):
    with pytest.raises(ConfigError, match=message) as caught:
        port(name).parse(text)
    assert caught.value.key == name
    assert run("--data", "d", "--result", "r", f"--{name}", text) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert SEEN == []


def test_an_unknown_port_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ConfigError, match=r"everything has no port 'colour'; it has data, images, label") as caught:
        everything(data=Path("d"), result=Path("r"), colour="red")
    assert caught.value.key == "colour"
    assert SEEN == []


def test_an_unknown_option_is_bad_usage(capsys):
    assert run("--data", "d", "--result", "r", "--colour", "red") == 2
    assert "--colour" in capsys.readouterr().err


def test_an_abbreviated_option_is_bad_usage():
    assert run("--data", "d", "--res", "r") == 2


@pytest.mark.parametrize("values", [{"data": Path("d")}, {"data": Path("d"), "result": None}])
def test_a_required_port_without_a_value_is_refused_and_described(values):
    with pytest.raises(ConfigError, match="everything needs --result: where the result goes") as caught:
        everything(**values)
    assert caught.value.key == "result"
    assert SEEN == []


def test_a_missing_required_option_is_bad_usage_and_points_to_help(capsys):
    assert run("--data", "d") == 2
    message = capsys.readouterr().err
    assert "--result" in message
    assert "--help" in message
    assert "Traceback" not in message


def test_ports_without_a_value_get_their_defaults():
    assert run("--data", "d", "--result", "r") == 0
    expected = {"images": None, "label": "plain", "tag": None, "workers": 8, "ratio": 0.5, "strict": False}
    (found,) = SEEN
    assert found == {"data": Path("d"), "result": Path("r"), "extra": None} | expected


def test_none_means_the_default():
    everything(data=Path("d"), result=Path("r"), workers=None, label=None)
    assert (SEEN[0]["workers"], SEEN[0]["label"]) == (8, "plain")


def test_the_command_line_and_the_call_hand_over_the_same_values():
    everything(data=Path("d"), result=Path("r"), workers=3, strict=True, images=Path("i"))
    run("--data", "d", "--result", "r", "--workers", "3", "--strict", "true", "--images", "i")
    assert SEEN[0] == SEEN[1]


def test_an_output_that_is_a_folder_gets_the_file_name_in_it(tmp_path):
    everything(data=tmp_path, result=tmp_path, extra=tmp_path)
    assert (SEEN[0]["result"], SEEN[0]["extra"]) == (tmp_path / "result.json", tmp_path / "extra.jsonl")
    assert SEEN[0]["data"] == tmp_path
    assert run("--data", tmp_path, "--result", tmp_path) == 0
    assert SEEN[1]["result"] == tmp_path / "result.json"


def test_an_output_that_is_no_folder_is_kept_even_without_an_extension(tmp_path):
    everything(data=tmp_path, result=tmp_path / "result")
    assert SEEN[0]["result"] == tmp_path / "result"


def test_help_names_every_port_with_its_description_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        everything.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m {__name__}" in text
    assert "Take one port of every kind." in text
    assert "readers of the code" not in text
    for item in everything.ports:
        assert f"--{item.name} {item.type}" in text
        assert item.description in text
    assert "a name, 100 % free (default: plain)" in text
    assert "how many (default: 8)" in text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no such thing"), 2),
        (EndpointError("no answer"), 1),
        (RunCancelled("stopped", signal_number=2), 130),
    ],
)
def test_an_expected_failure_is_one_message_and_its_exit_code(error, code, capsys):
    @component(name="x", display_name="X", deterministic=True)
    def failing() -> None:
        raise error

    assert failing.main([]) == code
    assert capsys.readouterr() == ("", f"error: {error}\n")


def test_an_unexpected_failure_keeps_its_traceback():
    @component(name="x", display_name="X", deterministic=True)
    def failing() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing.main([])


def test_sigterm_ends_the_run_with_143(capsys):
    @component(name="x", display_name="X", deterministic=True)
    def stopped() -> None:
        signal.raise_signal(signal.SIGTERM)

    assert stopped.main([]) == 143
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"


def test_control_c_ends_the_run_with_130():
    @component(name="x", display_name="X", deterministic=True)
    def stopped() -> None:
        raise KeyboardInterrupt

    assert stopped.main([]) == 130


def test_declaring_needs_none_of_the_heavy_packages():
    heavy = "{'azure', 'datasets', 'guidance', 'openai', 'mlflow', 'numpy'}"
    code = f"import sys, mmlu_pipe.components.component; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(mmlu_pipe.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, text=True, check=True)
    assert done.stdout.strip() == "[]"
