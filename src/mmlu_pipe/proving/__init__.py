"""A submission to AzureML rehearsed from end to end on this machine: what a job will do, seen before it costs anything.

The twin (mmlu_pipe.rehearsal) stands for the workspace, a cassette for the deployment; all else is the real thing.
"""

from __future__ import annotations

from mmlu_pipe.proving.result import Proof, Rehearsal, Stage
from mmlu_pipe.proving.story import rehearse

__all__ = ["Proof", "Rehearsal", "Stage", "rehearse"]
