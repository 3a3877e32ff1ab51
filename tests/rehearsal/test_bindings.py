"""`${{ }}` and `$[[ ]]` mean what the public rules say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.rehearsal.bindings import BindingError, parent_output, referenced_steps, render, resolve

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="${}[]"), max_size=20)


@given(before=TEXTS, name=NAMES, value=st.text(max_size=20), after=TEXTS)
def test_a_value_replaces_its_expression_as_plain_text(before: str, name: str, value: str, after: str) -> None:
    command = f"{before}${{{{inputs.{name}}}}}{after}"
    assert render(command, {f"inputs.{name}": value}) == f"{before}{value}{after}"


@given(before=TEXTS, name=NAMES, value=st.none() | TEXTS, after=TEXTS)
def test_what_is_optional_is_there_exactly_with_its_value(
    before: str, name: str, value: str | None, after: str
) -> None:
    command = f"{before}$[[--it ${{{{ inputs.{name} }}}}]]{after}"
    expected = before + after if value is None else f"{before}--it {value}{after}"
    assert render(command, {f"inputs.{name}": value}) == expected


def test_an_optional_part_without_an_expression_is_always_there() -> None:
    assert render("run $[[--quiet]]", {}) == "run --quiet"


def test_a_value_may_look_like_an_expression() -> None:
    assert render("echo ${{inputs.a}}", {"inputs.a": "${{inputs.b}} \\1"}) == "echo ${{inputs.b}} \\1"


@pytest.mark.parametrize(
    ("command", "says"),
    [("run ${{inputs.b}}", "names nothing"), ("run ${{inputs.a}}", "is not within"), ("$[[${{inputs.b}}]]", "nothing")],
)
def test_an_expression_without_a_value_is_an_error(command: str, says: str) -> None:
    with pytest.raises(BindingError, match=says):
        render(command, {"inputs.a": None})


def test_a_binding_may_be_one_expression_or_stand_within_text() -> None:
    values = {"parent.inputs.a": "x", "parent.inputs.none": None}
    assert resolve("${{parent.inputs.a}}", values) == "x"
    assert resolve("azureml://datastores/d/paths/${{parent.inputs.a}}/", values) == "azureml://datastores/d/paths/x/"
    assert resolve("${{ parent.inputs.none }}", values) is None
    with pytest.raises(BindingError, match="within other text"):
        resolve("a ${{parent.inputs.none}}", values)


def test_the_steps_and_outputs_that_a_binding_names_are_found() -> None:
    assert referenced_steps("${{parent.jobs.one.outputs.a}}") == {"one"}
    assert referenced_steps("${{parent.inputs.a}}") == set()
    assert parent_output(" ${{ parent.outputs.all }} ") == "all"
    assert parent_output("azureml://datastores/x/") is None
    assert parent_output(None) is None
