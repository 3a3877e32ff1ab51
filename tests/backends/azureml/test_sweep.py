"""A sweep on the twin: every cell is a job, all are submitted before one is waited for, none is paid for twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mmlu_pipe.rehearsal import Twin
from tests.backends.azureml.test_submit import HOST, Command, command, submitted
from tests.servers.aoai import AoaiServer

__all__ = ["command"]


def test_the_jobs_of_a_sweep_are_submitted_then_waited_for_by_the_same_command_and_compared(
    make_twin: Callable[..., Twin], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text("backend: azureml\nother_config: other_configs.json\ngate: no\n", "utf-8")
    sweep = ("sweep", "run.yaml", "--over", "lines=1-2,1-3", "--output-dir", "out")
    with AoaiServer({"dep": "gpt-4o"}, key=None, bearer=lambda token: token.count(".") == 2) as aoai:
        twin = make_twin(doors={HOST: int(aoai.endpoint.rpartition(":")[2])})
        first = command(twin, *sweep, "--no-wait")
        assert first["code"] == 0, first["err"]
        assert first["err"].endswith("to go on, repeat the command with --output-dir out --wait\n")
        jobs = submitted(twin)
        assert [f"running, job {job.name}" in first["out"] for job in jobs] == [True, True]
        written = json.loads((tmp_path / "out" / "sweep.json").read_text(encoding="utf-8"))
        assert [cell["job"] for cell in written["cells"]] == [job.name for job in jobs]
        again = command(twin, *sweep, "--wait", "--json")
    told = json.loads(again["out"])
    assert (again["code"], told["status"], submitted(twin)) == (0, "completed", jobs), again["err"]
    assert [(cell["answered"], cell["calls"]) for cell in told["cells"]] == [(2, 2), (3, 3)]
    assert (told["cells"][1]["difference"]["cell"], told["cells"][1]["difference"]["n"]) == ("lines=1-2", 2)
