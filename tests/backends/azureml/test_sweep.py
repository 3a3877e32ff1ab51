"""A sweep on the twin: every cell is a job, all are submitted before one is waited for, none is paid for twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe.bundled import bundled_programs
from mmlu_pipe.rehearsal import Twin
from tests.backends.azureml.test_submit import HOST, Command, command, submitted
from tests.servers.aoai import AoaiServer

__all__ = ["command"]

PROGRAMS = sorted(bundled_programs())
OPTIONS = "dataset: sample\nlines: 1-2\nother_config: other_configs.json\n"


def test_every_bundled_program_gives_as_a_job_of_a_sweep_the_bytes_of_a_local_run(
    make_twin: Callable[..., Twin],
    command: Command,
    write_config: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "run.yaml").write_text(f"{OPTIONS}backend: azureml\ngate: no\n", encoding="utf-8")
    over = f"guidance_program={','.join(PROGRAMS)}"
    sweep = ("sweep", "run.yaml", "--over", over, "--output-dir", "out")
    with AoaiServer({"dep": "gpt-4o"}, key=None, bearer=lambda token: token.count(".") == 2) as aoai:
        twin = make_twin(doors={HOST: int(aoai.endpoint.rpartition(":")[2])})
        first = command(twin, *sweep, "--no-wait")
        assert first["code"] == 0, first["err"]
        assert first["err"].endswith("to go on, repeat the command with --output-dir out --wait\n")
        jobs = submitted(twin)
        assert [f"running, job {job.name}" in first["out"] for job in jobs] == [True] * len(PROGRAMS)
        written = json.loads((tmp_path / "out" / "sweep.json").read_text(encoding="utf-8"))
        assert [cell["job"] for cell in written["cells"]] == [job.name for job in jobs]
        again = command(twin, *sweep, "--wait", "--json")
    told = json.loads(again["out"])
    assert (again["code"], told["status"], submitted(twin)) == (0, "completed", jobs), again["err"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    with AoaiServer({"dep": "gpt-4o"}) as aoai:
        options = {"lines": "1-2", "other_config": write_config(aoai.endpoint), "output_dir": "local"}
        local = mmlu_pipe.sweep(over={"guidance_program": PROGRAMS}, **options)
    assert not local.failed
    for cell in told["cells"]:
        assert cell["answered"] == 2
        for name in ("output.jsonl", "errors.jsonl", "score.json"):
            job, here = (tmp_path / folder / Path(cell["run_dir"]).name / name for folder in ("out", "local"))
            assert job.read_bytes() == here.read_bytes(), (cell["cell"], name)
    assert (told["cells"][1]["difference"]["cell"], told["cells"][1]["difference"]["n"]) == (
        told["cells"][0]["cell"],
        2,
    )
