"""What scripts call, and what the command line prints."""

from mmlu_pipe.api.datasets import create_dataset
from mmlu_pipe.api.rehearsing import rehearse
from mmlu_pipe.api.running import Plan, plan, run, start
from mmlu_pipe.api.scoring import score

__all__ = ["Plan", "create_dataset", "plan", "rehearse", "run", "score", "start"]
