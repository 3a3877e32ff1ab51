"""What the service refuses by its form is refused here too, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from mmlu_pipe.rehearsal import Twin
from mmlu_pipe.rehearsal.exchange import Refusal
from mmlu_pipe.rehearsal.rules import check_asset, check_component, check_job, check_node
from tests.rehearsal.rest import ask, component, node, workspace_url


@pytest.mark.parametrize(
    ("kind", "name", "version"),
    [
        ("data", "mmlu_astronomy_test", "8e5c6a0b0dd9df47"),
        ("data", "1-a", "1" * 30),
        ("environments", "mmlu_pipe", "1.0.0"),
        ("components", "jsonl_guidance_aoai", "0" * 64),
        ("codes", "7c73295e-8cd2-4bf5-8046-5360289d556a", "1"),
    ],
)
def test_a_name_and_version_that_the_service_takes_are_taken(kind: str, name: str, version: str) -> None:
    check_asset(kind, name, version)


@pytest.mark.parametrize(
    ("kind", "name", "version", "says"),
    [
        ("data", "mmlu.v2", "1", "no name"),
        ("data", "my data", "1", "no name"),
        ("data", "_begins", "1", "no name"),
        ("data", "a" * 256, "1", "no name"),
        ("data", "a", "1" * 31, "maximum length of 30"),
        ("environments", "ünïcode", "1", "no name"),
        ("components", "Upper", "1", "for a component"),
        ("components", "with-dash", "1", "for a component"),
        ("components", "1st", "1", "for a component"),
    ],
)
def test_a_name_or_version_that_the_service_does_not_take_is_refused(
    kind: str, name: str, version: str, says: str
) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        check_asset(kind, name, version)
    assert refused.value.reply.status == 400


A: dict[str, Any] = {"a": {"type": "string"}}
B: dict[str, Any] = {"b": {"type": "integer", "optional": True}}


@pytest.mark.parametrize(
    ("command", "inputs", "outputs", "says"),
    [
        ("run ${{inputs.a}}", {}, {}, "not declared"),
        ("run ${{ outputs.o }}", A, {}, "not declared"),
        ("run $[[--a ${{inputs.a}}]]", A, {}, "only optional inputs"),
        ("run $[[--o ${{outputs.o}}]]", {}, {"o": {"type": "uri_file"}}, "only optional inputs"),
        ("run ${{inputs.b}}", B, {}, "nested argument"),
        ("run $[[--b ${{inputs.b}}]] ${{inputs.b}}", B, {}, "nested argument"),
        ("run", {"Path": {"type": "string"}}, {}, "reserved"),
        ("run", {}, {"home": {"type": "uri_folder"}}, "reserved"),
        ("run", {"a": {"type": "text"}}, {}, "no known type"),
    ],
)
def test_a_component_whose_ports_or_command_cannot_be_is_refused(
    command: str, inputs: dict[str, Any], outputs: dict[str, Any], says: str
) -> None:
    with pytest.raises(Refusal, match=says):
        check_component({"command": command, "inputs": inputs, "outputs": outputs})


def test_a_command_may_leave_ports_out_and_name_one_twice() -> None:
    check_component({"command": "run ${{inputs.a}} $[[${{inputs.b}}]] ${{inputs.a}}", "inputs": A | B | {"c": A["a"]}})


SPEC = {
    "inputs": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "flag": {"type": "boolean"},
        "file": {"type": "uri_file"},
    },
    "outputs": {"o": {"type": "uri_file"}},
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text", "12"),
        ("text", '["a", "b"]'),
        ("count", "-3"),
        ("count", "${{parent.inputs.count}}"),
        ("share", "300.0"),
        ("share", "1e-3"),
        ("flag", "False"),
        ("flag", "true"),
        ("file", "${{parent.jobs.first.outputs.o}}"),
    ],
)
def test_a_literal_that_fits_its_input_is_taken(key: str, value: str) -> None:
    check_node("step", {"inputs": {key: {"job_input_type": "literal", "value": value}}}, SPEC)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": {"text": {"value": ""}}}, "The Value field is required"),
        ({"inputs": {"text": {"value": None}}}, "The Value field is required"),
        ({"inputs": {"count": {"value": "3.5"}}}, "must be of type integer"),
        ({"inputs": {"share": {"value": "many"}}}, "must be of type number"),
        ({"inputs": {"flag": {"value": "yes"}}}, "must be of type boolean"),
        ({"inputs": {"other": {"value": "x"}}}, "its component has not"),
        ({"inputs": {"file": {"uri": "azureml:a:1", "mode": "download"}}}, "none of the modes"),
        ({"outputs": {"other": {"value": "x"}}}, "its component has not"),
        ({"outputs": {"o": {"mode": "Download"}}}, "none of the modes"),
        ({"identity": {"identity_type": "managed"}}, "identity of step"),
        ({"identity": {"type": "managed"}}, "identity of step"),
    ],
)
def test_a_step_that_does_not_fit_its_component_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        check_node("step", changes, SPEC)


@pytest.mark.parametrize("name", ["with-dash", "1st", "a b"])
def test_a_step_has_the_name_of_a_variable(name: str) -> None:
    with pytest.raises(Refusal, match="no name for a step"):
        check_node(name, {}, SPEC)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"experimentName": "simple_mmlu.v2"}, "Experiment name"),
        ({"experimentName": "my experiment"}, "Experiment name"),
        ({"experimentName": "a" * 257}, "Experiment name"),
        ({"displayName": "a" * 257}, "display name"),
        ({"tags": {f"tag{number}": "" for number in range(51)}}, "more than 50 tags"),
        ({"tags": {"a": "x" * 1001}}, "1,000 characters"),
        ({"tags": {"a": 1}}, "no text"),
        ({"outputs": {"o": {"jobOutputType": "string"}}}, "no known type"),
        ({"outputs": {"o": {"jobOutputType": "uri_file", "mode": "rw_mount"}}}, "none of the modes"),
        ({"identity": {"identityType": "system_assigned"}}, "identity of job"),
    ],
)
def test_a_job_that_says_what_the_service_does_not_know_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        check_job(changes)


def test_the_twin_asks_the_rules_when_something_is_created(twin: Twin) -> None:
    made = component(twin, "c", "run ${{inputs.a}}", {"a": {"type": "integer"}})
    bodies: dict[str, Any] = {
        "/data/mmlu.v2/versions/1": {"dataUri": "azureml://datastores/a/paths/b", "dataType": "uri_file"},
        "/components/d/versions/1": {"componentSpec": {"command": "${{inputs.a}}", "environment": "azureml:e:1"}},
        "/jobs/a": {"jobType": "Pipeline", "jobs": {"one": node(made, {"a": "x"})}},
        "/jobs/b": {"jobType": "Pipeline", "experimentName": "a.b", "jobs": {"one": node(made, {"a": "1"})}},
        "/jobs/c.d": {"jobType": "Pipeline", "jobs": {"one": node(made, {"a": "1"})}},
    }
    for path, properties in bodies.items():
        status, _ = ask(twin, workspace_url(twin, path), "PUT", body={"properties": properties})
        assert status == 400, path
        assert ask(twin, workspace_url(twin, path))[0] == 404, path
