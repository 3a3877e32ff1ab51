"""The live tests themselves, against the twin: so that what is run on the service one day is known to work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mmlu_pipe.rehearsal import Azurite, Twin
from tests.conftest import ROOT
from tests.live.claims import CLAIMS
from tests.live.evidence import read
from tests.rehearsal.conftest import azurite
from tests.servers.aoai import AoaiServer, Reply, default_answer, filtered_prompt

__all__ = ["azurite"]

HOST = "live-tests.openai.azure.com"
CLIENT_ID = "11111111-2222-4333-8444-555555555555"
OPTIONS = ("-q", "-n0", "-pno:cacheprovider")
BLOCKED = "a text that this filter blocks"


def answer(body: dict[str, object], count: int) -> str | Reply:
    return filtered_prompt() if BLOCKED in json.dumps(body) else default_answer(body, count)


def test_every_live_test_passes_on_the_twin(azurite: Azurite, tmp_path: Path) -> None:
    config = {
        "aoai_endpoint": f"https://{HOST}/",
        "aoai_deployment": "live-deployment",
        "aoai_model": "gpt-4o",
        "aoai_api_version": "2024-10-21",
        "aoai_compute": "cpu-cluster",
        "general_compute": "cpu-cluster",
    }
    deployments = {"live-deployment": "gpt-4o"}
    with (
        AoaiServer(deployments, key="live-key", bearer=lambda token: token.count(".") == 2, answer=answer) as aoai,
        Twin(
            sys.executable,
            storage=azurite,
            doors={HOST: int(aoai.endpoint.rpartition(":")[2])},
            managed_identities=(CLIENT_ID,),
        ) as twin,
    ):
        for name, value in {"config.json": twin.config(), "other_configs.json": config}.items():
            (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
        (tmp_path / "filtered.txt").write_text(BLOCKED, encoding="utf-8")
        settings = {
            "WORKSPACE_CONFIG": str(tmp_path / "config.json"),
            "OTHER_CONFIG": str(tmp_path / "other_configs.json"),
            "EVIDENCE": str(tmp_path / "evidence.json"),
            "FILTERED": str(tmp_path / "filtered.txt"),
            "KEY": "1",
            "SERVERLESS": "1",
            "CLIENT_ID": CLIENT_ID,
            "REGISTRY": twin.workspace.registries[0],
            "EXTRA_PACKAGE": "a-package-that-no-twin-installs==1.0",
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *OPTIONS, f"--basetemp={tmp_path / 'live'}", "tests/live"],
            cwd=ROOT,
            env=os.environ
            | twin.environment()
            | {"MMLU_PIPE_LIVE": "1", "MMLU_PIPE_LIVE_ON_TWIN": "0", "AZURE_OPENAI_API_KEY": "live-key"}
            | {f"MMLU_PIPE_LIVE_{name}": value for name, value in settings.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
    evidence = read(tmp_path / "evidence.json")
    assert {name: proof.passed for name, proof in evidence.items()} == {claim.id: True for claim in CLAIMS}, done.stdout
