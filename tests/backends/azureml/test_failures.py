"""What the SDK raises is told in one message: what was done, what the service says, what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmlu_pipe.backends.azureml.failures import scrubbed, translated
from mmlu_pipe.errors import AuthenticationFailed, MmluPipeError, WorkspaceRejected, WorkspaceUnavailable

core = pytest.importorskip("azure.core.exceptions", reason="pip install -c constraints.txt -e '.[test]'")

TENANT = "00000000-0000-4000-8000-00000000000a"


def http(status: int, message: str, url: str = "https://management.azure.com/x") -> Exception:
    from azure.core.rest import HttpRequest

    class Response:
        reason, headers = "", {}
        status_code = status
        request = HttpRequest("GET", url)

    return core.HttpResponseError(message, response=Response())  # type: ignore[no-any-return]


def told(error: Exception, registered: tuple[str, ...] = ()) -> MmluPipeError:
    with pytest.raises(MmluPipeError) as failed, translated("do it", registered):
        raise error
    assert failed.value.__cause__ is error
    return failed.value


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, WorkspaceRejected, "mend what the message names"),
        (401, AuthenticationFailed, "run `az login`"),
        (403, WorkspaceRejected, "'AzureML Data Scientist' on the workspace"),
        (404, WorkspaceRejected, "check the name and the version"),
        (409, WorkspaceRejected, "wait a little"),
        (408, WorkspaceUnavailable, "wait some minutes"),
        (429, WorkspaceUnavailable, "wait some minutes"),
        (500, WorkspaceUnavailable, "wait some minutes"),
        (503, WorkspaceUnavailable, "wait some minutes"),
    ],
)
def test_every_status_has_its_error_and_its_advice(status: int, kind: type, advice: str) -> None:
    error = told(http(status, "The service says so."), ("azureml:a:1",))
    assert type(error) is kind
    assert str(error).startswith(f"cannot do it: The service says so (HTTP {status})\n")
    assert advice in str(error)
    assert str(error).endswith("already registered, and found by the next attempt: azureml:a:1")


@pytest.mark.parametrize(
    ("url", "role"),
    [
        ("https://account.blob.core.windows.net/c/b", "Storage Blob Data Contributor"),
        ("https://cert-eastus.experiments.azureml.net/providers/X/registries/r/components/c", "AzureML Registry User"),
        ("https://management.azure.com/subscriptions/s/workspaces/w", "AzureML Data Scientist"),
    ],
)
def test_a_refusal_names_the_role_of_what_refused(url: str, role: str) -> None:
    assert repr(role) in str(told(http(403, "No.", url)))


def test_no_connection_is_told_in_a_few_words() -> None:
    error = told(core.ServiceRequestError("('Unable to connect to proxy', OSError('Connection refused'))"))
    assert type(error) is WorkspaceUnavailable
    assert str(error).startswith("cannot do it: no connection (Connection refused)\n  check the network")


def test_a_login_service_that_is_down_is_no_missing_login() -> None:
    text = "Attempted credentials:\n\tEnvironmentCredential: Authentication failed: {}\nTo mitigate"
    down = told(core.ClientAuthenticationError(text.format("HTTPSConnectionPool(host='login'): refused")))
    assert type(down) is WorkspaceUnavailable
    refused = told(core.ClientAuthenticationError(text.format("AADSTS50034: No such user.")))
    assert type(refused) is AuthenticationFailed
    assert "AADSTS50034: No such user" in str(refused)


@pytest.mark.parametrize("kind", [core.AzureError, Exception])
def test_what_the_sdk_wraps_in_words_of_its_own_keeps_the_services_status(kind: type[Exception]) -> None:
    wrapped = kind("formatted")
    wrapped.__context__ = http(404, "Not found.")
    error = told(wrapped)
    assert isinstance(error, WorkspaceRejected)
    assert error.status == 404


def test_what_the_sdk_itself_refuses_has_no_status() -> None:
    error = told(core.AzureError("This is wrong."))
    assert isinstance(error, WorkspaceRejected)
    assert error.status is None
    assert "This is wrong" in str(error)


def test_a_bug_and_an_error_of_ours_stay_as_they_are() -> None:
    for error in (KeyError("bug"), WorkspaceRejected("ours")):
        with pytest.raises(type(error)) as failed, translated("do it"):
            raise error
        assert failed.value is error


def test_messages_hold_no_token_no_signature_and_no_id() -> None:
    text = (
        f"tenant {TENANT} eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl "
        "https://a.blob.core.windows.net/c/b?sv=1&sig=abc%3D end"
    )
    assert scrubbed(text) == "tenant [id] [token] https://a.blob.core.windows.net/c/b end"
    assert TENANT not in str(told(http(400, f"Tenant {TENANT} is wrong.")))


def test_our_modules_load_nothing_of_azure() -> None:
    names = ("client", "failures", "blobs", "register", "datasets", "publish")
    script = (
        "import importlib, sys\n"
        f"for name in {names}: importlib.import_module('mmlu_pipe.backends.azureml.' + name)\n"
        "import mmlu_pipe.cli.publish\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('azure', 'requests', 'msrest')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
