"""Received pipeline jobs are executed as the service would; no SDK is needed to see it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmlu_pipe.rehearsal import Azurite, Twin
from tests.rehearsal.rest import ask, component, node, submit, text_of, workspace_url

FILE = {"type": "uri_file"}


def one(twin: Twin, command: str, inputs: dict[str, object] | None = None, **given: str) -> str:
    """The log of a job of one step."""
    run = submit(twin, {"only": node(component(twin, "c", command, inputs), given)})
    assert run.wait(60)
    return text_of(twin, run.children[0], "log")


def test_values_are_put_into_the_command_as_plain_text(twin: Twin) -> None:
    inputs: dict[str, object] = {"a": {"type": "string"}, "b": {"type": "integer", "default": "7"}}
    assert one(twin, "printf '%s,' ${{inputs.a}} '${{inputs.a}}' ${{inputs.b}}", inputs, a="x y") == "x,y,x y,7,"


def test_an_optional_input_without_a_value_takes_its_part_of_the_command_along(twin: Twin) -> None:
    inputs: dict[str, object] = {"a": {"type": "string", "optional": True}}
    assert one(twin, "echo begin $[[--a ${{inputs.a}}]] end", inputs) == "begin end\n"


def test_a_required_input_without_a_value_fails_the_step_before_it_starts(twin: Twin) -> None:
    assert one(twin, "echo started", {"a": {"type": "string"}}) == "the input a has no value, and is not optional\n"
    assert twin.job("a-job").status == "Failed"


def test_the_same_component_runs_twice_and_each_run_has_its_own_outputs(twin: Twin) -> None:
    write = component(twin, "w", "echo ${{inputs.a}} > ${{outputs.o}}", {"a": {"type": "string"}}, {"o": FILE})
    run = submit(twin, {"first": node(write, {"a": "1"}), "second": node(write, {"a": "2"})})
    assert run.wait(60)
    assert [text_of(twin, child, "o") for child in run.children] == ["1", "2"]


def test_a_step_waits_for_those_whose_outputs_it_takes_and_for_no_other(
    make_twin: Callable[..., Twin], tmp_path: Path
) -> None:
    order: list[str] = []
    twin = make_twin(drill=lambda step: order.append(step.name))
    meet = "touch ${{inputs.d}}/$AZUREML_RUN_ID; until [ $(ls ${{inputs.d}} | wc -l) = 2 ]; do sleep 0.05; done"
    write = component(twin, "w", f"{meet}; echo x > ${{{{outputs.o}}}}", {"d": {"type": "string"}}, {"o": FILE})
    read = component(twin, "r", "cat ${{inputs.i}} ${{inputs.j}}", {"i": FILE, "j": FILE})
    bound = {"i": "${{parent.jobs.one.outputs.o}}", "j": "${{parent.jobs.two.outputs.o}}"}
    at = {"d": str(tmp_path)}
    run = submit(twin, {"last": node(read, bound), "one": node(write, at), "two": node(write, at)})
    assert run.wait(60)
    assert (run.status, order[-1], sorted(order)) == ("Completed", "last", ["last", "one", "two"])


def test_steps_that_wait_for_each_other_are_refused(twin: Twin) -> None:
    echo = component(twin, "c", "cat ${{inputs.i}} > ${{outputs.o}}", {"i": FILE}, {"o": FILE})
    steps = {
        "a": node(echo, {"i": "${{parent.jobs.b.outputs.o}}"}),
        "b": node(echo, {"i": "${{parent.jobs.a.outputs.o}}"}),
    }
    body = {"properties": {"jobType": "Pipeline", "jobs": steps}}
    status, answer = ask(twin, workspace_url(twin, "/jobs/x"), "PUT", body=body)
    assert (status, "a, b wait for each other" in answer["error"]["message"]) == (400, True)


def test_an_output_goes_where_the_job_says(twin: Twin) -> None:
    write = component(twin, "w", "echo here > ${{outputs.o}}", {}, {"o": FILE})
    uri = "azureml://datastores/${{default_datastore}}/paths/kept/${{name}}/${{output_name}}.txt"
    run = submit(twin, {"only": node(write, outputs={"o": {"uri": uri, "job_output_type": "uri_file"}})})
    assert run.wait(60)
    child = run.children[0]
    assert child.outputs["o"].uri.endswith(f"/datastores/workspaceblobstore/paths/kept/{child.name}/o.txt")
    assert text_of(twin, child, "o").strip() == "here"


def test_an_input_that_is_not_there_fails_the_step_and_says_which(twin: Twin) -> None:
    inputs: dict[str, object] = {"i": FILE}
    log = one(twin, "cat ${{inputs.i}}", inputs, i="azureml://datastores/workspaceblobstore/paths/none.txt")
    assert "the input i cannot be read" in log


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_what_a_step_left_running_ends_with_it(twin: Twin) -> None:
    pid = int(one(twin, "sleep 300 & echo $!"))
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def test_a_job_that_still_runs_ends_with_the_twin(azurite: Azurite) -> None:
    with Twin(sys.executable, storage=azurite, grace_s=0.2) as twin:
        run = submit(twin, {"only": node(component(twin, "c", "trap '' TERM; sleep 300; sleep 300"))})
        while not run.children or run.children[0].status != "Running":
            time.sleep(0.05)
    assert (run.status, run.children[0].status) == ("Canceled", "Canceled")


def test_an_environment_whose_image_cannot_be_built_fails_the_step_and_has_a_log(
    make_twin: Callable[..., Twin],
) -> None:
    twin = make_twin(broken_images={"e": "Could not solve the conda environment"})
    run = submit(twin, {"only": node(component(twin, "c", "echo started"))})
    assert run.wait(60)
    child = run.children[0]
    assert (run.status, child.status) == ("Failed", "Failed")
    assert child.error is not None
    assert "Image build failed" in child.error["error"]["message"]
    assert list(child.logs) == ["azureml-logs/20_image_build_log.txt"]
