"""What goes wrong in the cloud goes wrong in the twin in the same way, on purpose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmlu_pipe.rehearsal import (
    RunningStep,
    Twin,
    conflict,
    cut,
    expired_token,
    server_error,
    too_many_requests,
)
from tests.rehearsal.conftest import Sdk, SdkError

LINES = "one\ntwo\nthree\n"


def saying(word: str, then: Callable[[RunningStep], None]) -> Callable[[RunningStep], None]:
    """A drill: on the first node of the first step, once its log has the word."""

    def drill(step: RunningStep) -> None:
        while step.name == "first" and step.attempt == 1 and not step.ended:
            if word in step.log():
                then(step)
                return
            time.sleep(0.05)

    return drill


def test_a_step_that_exits_with_an_error_fails_the_job_and_its_own_error_can_be_read(twin: Twin, sdk: Sdk) -> None:
    found = sdk(twin, "whole", behave="exit 3")
    assert found["status"] == "Failed"
    assert {step: child["status"] for step, child in found["children"].items()} == {
        "first": "Failed",
        "second": "Canceled",
    }
    first = sdk(twin, "error_of", step=found["children"]["first"]["name"])
    assert "exited with status code 3" in first["error"]["error"]["message"]
    assert first["logs"] == {"user_logs/std_log.txt": "behaves exit 3\nthe reason is in the log\n"}
    with pytest.raises(SdkError, match="Failed nodes: /first") as failed:
        sdk(twin, "stream", name=found["name"])
    assert failed.value.type == "JobException"


def test_a_killed_step_fails_with_the_exit_code_of_its_signal(make_twin: Callable[..., Twin], sdk: Sdk) -> None:
    twin = make_twin(drill=saying("behaves", RunningStep.kill))
    found = sdk(twin, "whole", behave="wait")
    first = sdk(twin, "error_of", step=found["children"]["first"]["name"])
    assert (found["status"], "status code 137" in first["error"]["error"]["message"]) == ("Failed", True)


def on_checkpoint(attempts: list[Path], then: Callable[[RunningStep], None]) -> Callable[[RunningStep], None]:
    """A drill on the first step, whenever it has written a checkpoint; notes the folders it ran in."""

    def drill(step: RunningStep) -> None:
        if step.name != "first":
            return
        attempts.append(step.folder)
        assert step.attempt == 1 or not attempts[0].exists()
        while not step.ended:
            own = step.log().split("behaves")[step.attempt :]
            if own and "checkpoint written" in own[0]:
                then(step)
                return
            time.sleep(0.05)

    return drill


def test_a_preempted_step_starts_again_on_an_empty_disk_with_what_it_had_put_out(
    make_twin: Callable[..., Twin], sdk: Sdk
) -> None:
    attempts: list[Path] = []
    twin = make_twin(drill=on_checkpoint(attempts, RunningStep.preempt))
    found = sdk(twin, "whole", behave="checkpoint")
    assert found["status"] == "Completed"
    assert list(found["outputs"]["rows"].values()) == ["checkpoint\n" + LINES * 2]
    assert len(set(attempts)) == 2


def test_an_output_that_is_uploaded_at_the_end_is_lost_with_its_node(make_twin: Callable[..., Twin], sdk: Sdk) -> None:
    attempts: list[Path] = []

    def take_away(step: RunningStep) -> None:
        (step.preempt if step.attempt == 1 else step.kill)()

    twin = make_twin(drill=on_checkpoint(attempts, take_away))
    assert sdk(twin, "whole", behave="checkpoint", mode="upload")["status"] == "Failed"
    assert len(set(attempts)) == 2


@pytest.mark.parametrize(("behave", "grace_s", "last_word"), [("wait", 5.0, "asked to end"), ("deaf", 0.5, "deaf now")])
def test_a_running_job_can_be_cancelled(
    make_twin: Callable[..., Twin], sdk: Sdk, behave: str, grace_s: float, last_word: str
) -> None:
    reached = threading.Event()
    word = "deaf now" if behave == "deaf" else "behaves"
    twin = make_twin(drill=saying(word, lambda _: reached.set()), grace_s=grace_s)
    sdk(twin, "register")
    name = sdk(twin, "submit", behave=behave)
    assert reached.wait(60)
    assert sdk(twin, "cancel", name=name) == "Canceled"
    found = sdk(twin, "get", name=name)
    assert {child["status"] for child in found["children"].values()} == {"Canceled"}
    log = sdk(twin, "error_of", step=found["children"]["first"]["name"])["logs"]["user_logs/std_log.txt"]
    assert last_word in log


def test_a_log_can_be_read_while_its_step_runs(make_twin: Callable[..., Twin], sdk: Sdk) -> None:
    reached = threading.Event()
    twin = make_twin(drill=saying("behaves", lambda _: reached.set()))
    sdk(twin, "register")
    name = sdk(twin, "submit", behave="wait")
    assert reached.wait(60)
    step = next(child for child in twin.job(name).children if child.display_name == "first")
    deadline = time.monotonic() + 30
    while "user_logs/std_log.txt" not in step.logs and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sdk(twin, "error_of", step=step.name) == {"error": None, "logs": {"user_logs/std_log.txt": "behaves wait\n"}}


def test_a_file_that_is_missing_from_the_snapshot_fails_the_step_with_its_own_words(twin: Twin, sdk: Sdk) -> None:
    found = sdk(twin, "whole", behave="import helper")
    first = sdk(twin, "error_of", step=found["children"]["first"]["name"])
    assert found["status"] == "Failed"
    assert "No module named 'helper'" in first["logs"]["user_logs/std_log.txt"]


def test_a_compute_that_does_not_exist_is_refused(twin: Twin, sdk: Sdk) -> None:
    sdk(twin, "register")
    with pytest.raises(SdkError, match="Compute nowhere was not found") as refused:
        sdk(twin, "submit", compute="nowhere")
    assert refused.value.status == 400
    with pytest.raises(SdkError, match="Not found compute with name nowhere"):
        sdk(twin, "submit", step_compute="nowhere")


def test_a_data_asset_that_does_not_exist_is_refused(twin: Twin, sdk: Sdk) -> None:
    sdk(twin, "register")
    with pytest.raises(SdkError, match="lines/versions/9 was not found") as refused:
        sdk(twin, "submit", data="azureml:lines:9")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("fault", "status"),
    [(expired_token("PUT", "environments/*", None), 401), (conflict("PUT", "environments/*", None), 409)],
    ids=["expired token", "conflict"],
)
def test_what_the_service_refuses_reaches_the_caller(twin: Twin, sdk: Sdk, fault: object, status: int) -> None:
    twin.faults.add(fault)  # type: ignore[arg-type]
    with pytest.raises(SdkError) as refused:
        sdk(twin, "register")
    assert refused.value.status == status
    assert [kept.status for kept in twin.requests if kept.route == "environments/*/versions/*"][-1] == status
    assert [kept.status for kept in twin.requests if kept.route == "data/*/versions/*"] == [201]


@pytest.mark.parametrize(
    "fault",
    [too_many_requests("PUT", "environments/*", 1), server_error("PUT", "environments/*", 1)],
    ids=["429", "500"],
)
def test_what_passes_is_tried_again_by_the_sdk(twin: Twin, sdk: Sdk, fault: object) -> None:
    twin.faults.add(fault)  # type: ignore[arg-type]
    assert len(sdk(twin, "register", hurry=True)) == 4
    statuses = [kept.status for kept in twin.requests if kept.route == "environments/*/versions/*"]
    assert statuses[0] in (429, 500)
    assert statuses[-1] == 201


def test_an_upload_that_is_cut_is_tried_again(twin: Twin, sdk: Sdk) -> None:
    twin.faults.add(cut("PUT", "blob/?/?", times=1))
    assert len(sdk(twin, "register", hurry=True)) == 4
    uploads = [kept.status for kept in twin.requests if kept.method == "PUT" and kept.route == "blob/*/*"]
    assert uploads[:2] == [0, 201]


def test_a_stream_that_is_lost_raises_and_the_job_goes_on(twin: Twin, sdk: Sdk) -> None:
    sdk(twin, "register")
    name = sdk(twin, "submit", behave="slowly")
    twin.faults.add(cut("GET", "history/*/details", times=None, after=1))
    with pytest.raises(SdkError) as lost:
        sdk(twin, "stream", name=name, retries=0)
    assert lost.value.type in ("ServiceRequestError", "ServiceResponseError")
    twin.faults.clear()
    assert sdk(twin, "wait", name=name) == "Completed"


def test_a_token_that_expires_is_refused_by_every_door(twin: Twin, sdk: Sdk) -> None:
    twin.identity.lifetime_s = -30
    with pytest.raises(SdkError) as refused:
        sdk(twin, "register")
    assert refused.value.status == 401
