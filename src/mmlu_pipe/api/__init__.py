"""What scripts call, and what the command line prints."""

from mmlu_pipe.api.datasets import create_dataset
from mmlu_pipe.api.loading import LoadedRun, load_run
from mmlu_pipe.api.rehearsing import rehearse
from mmlu_pipe.api.running import Plan, plan, run, start
from mmlu_pipe.api.scoring import compare, score
from mmlu_pipe.api.sweeping import sweep

__all__ = ["LoadedRun", "Plan", "compare", "create_dataset", "load_run", "plan", "rehearse", "run", "score", "start"]
__all__ += ["sweep"]
