"""A twin of AzureML on loopback, in which a submission is rehearsed before it costs anything.

    with Twin(interpreter) as twin:
        subprocess.run([...], env=os.environ | twin.environment())

The unmodified azure-ai-ml SDK runs in the client process; see docs/rehearsal.md for what is real and what is not.
"""

from __future__ import annotations

from mmlu_pipe.rehearsal.exchange import Recorded
from mmlu_pipe.rehearsal.faults import (
    Fault,
    conflict,
    cut,
    expired_token,
    server_error,
    too_many_requests,
)
from mmlu_pipe.rehearsal.process import RunningStep
from mmlu_pipe.rehearsal.runs import Run
from mmlu_pipe.rehearsal.storage import Azurite
from mmlu_pipe.rehearsal.twin import Twin
from mmlu_pipe.rehearsal.workspace import Workspace

__all__ = [
    "Azurite",
    "Fault",
    "Recorded",
    "Run",
    "RunningStep",
    "Twin",
    "Workspace",
    "conflict",
    "cut",
    "expired_token",
    "server_error",
    "too_many_requests",
]
