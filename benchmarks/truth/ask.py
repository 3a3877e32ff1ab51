"""Asking: every engine and strategy on the same lines, each once; what is finished is left alone."""

import json
import os
import platform
import random
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.truth.relay import relay

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ZERO_SHOT, LETTERED = ROOT / "guidance_programs" / "zero_shot.py", HERE / "lettered.py"
RUNS = {
    "json_schema": (ZERO_SHOT, "json_schema"),
    "logprob": (ZERO_SHOT, "logprob"),
    "text": (ZERO_SHOT, "text"),
    "lettered_text": (LETTERED, "text"),
}
"""Name of a run on the endpoint → its program and select strategy."""

NATIVE_PACKAGES = ("llama-cpp-python==0.3.36", "-e", str(ROOT))
START_S = 300


@dataclass(frozen=True)
class Study:
    """What is studied: the working folder, the weights, the dataset, and how many of its lines, drawn by which seed."""

    folder: Path
    model: Path
    dataset: Path
    count: int
    seed: int

    @property
    def lines(self) -> list[int]:
        """The lines that are asked, 1-based, in their order."""
        with self.dataset.open("rb") as file:
            total = sum(1 for _ in file)
        return sorted(random.Random(self.seed).sample(range(1, total + 1), self.count))

    @property
    def numbers(self) -> str:
        """The same for `--lines`."""
        return ",".join(map(str, self.lines))

    def finished(self, name: str) -> bool:
        """Whether a run has completed."""
        manifest = self.folder / name / "manifest.json"
        return manifest.exists() and json.loads(manifest.read_text(encoding="utf-8"))["status"] == "completed"


def ask(study: Study, native_python: Path | None) -> None:
    """Ask whatever is not finished."""
    study.folder.mkdir(parents=True, exist_ok=True)
    facts = {name: version(name) for name in ("xllamacpp", "inspect-ai", "mmlu-pipe")}
    facts |= {
        "machine": f"a {platform.system()} machine with {os.cpu_count()} processors",
        "Python": platform.python_version(),
    }
    (study.folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    if not study.finished("native"):
        python = native_python or _native_environment(study.folder)
        given = (study.model, study.dataset, study.numbers, ZERO_SHOT, study.folder / "native")
        _run(python, HERE / "native.py", *given)
    open_runs = [name for name in RUNS if not study.finished(name)]
    answers = study.folder / "inspect" / "answers.jsonl"
    if open_runs or not answers.exists():
        _ask_the_endpoint(study, open_runs, answers)
    tokens = study.folder / "tokens.jsonl"
    if not tokens.exists():
        calls = study.folder / "json_schema" / "calls.jsonl"
        _run(sys.executable, "-m", "benchmarks.truth.tokens", study.model, calls, tokens)


def _ask_the_endpoint(study: Study, open_runs: Sequence[str], answers: Path) -> None:
    with _served(study) as (upstream, config, key):
        for name in open_runs:
            program, strategy = RUNS[name]
            with _recorded(study, name, upstream) as address:
                file = study.folder / "relay.json"
                file.write_text(json.dumps(config | {"aoai_endpoint": address}), encoding="utf-8")
                _run(
                    *(sys.executable, "-m", "mmlu_pipe", "run", "--dataset", study.dataset, "--lines", study.numbers),
                    *("--guidance-program", program, "--other-config", file, "--select-strategy", strategy),
                    *("--workers", 1, "--timeout", 3600, "--max-errors", "100%"),
                    *("--output-dir", study.folder / name),
                    AZURE_OPENAI_API_KEY=key,
                )
        if not answers.exists():
            with _recorded(study, "inspect", upstream) as address:
                given = (address, config["aoai_deployment"], study.dataset, study.numbers, answers.parent)
                _run(sys.executable, "-m", "benchmarks.truth.inspect_peer", *given, AZUREAI_OPENAI_API_KEY=key)


def _run(*command: object, **environment: str) -> None:
    """A command, its output shown; it fails the study if it fails."""
    shown = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"} | environment
    subprocess.run(list(map(str, command)), check=True, env=shown)


@contextmanager
def _served(study: Study) -> Iterator[tuple[str, dict[str, str], str]]:
    """`mmlu-pipe serve`: its address, the configuration that it wrote, and its key."""
    key, config = secrets.token_urlsafe(24), study.folder / "served.json"
    config.unlink(missing_ok=True)
    command = [sys.executable, "-m", "mmlu_pipe", "serve", "--model-file", str(study.model), "--threads", "1"]
    environment = os.environ | {"MMLU_PIPE_SERVE_KEY": key, "PYTHONPATH": str(ROOT / "src")}
    with (study.folder / "serve.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen([*command, "--port", "0", "--write-config", str(config)], env=environment, stdout=log)
        try:
            until = time.monotonic() + START_S
            while not config.exists():
                if server.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"mmlu-pipe serve did not start; see {log.name}")
                time.sleep(0.2)
            found = json.loads(config.read_text(encoding="utf-8"))
            yield found["aoai_endpoint"], found, key
        finally:
            server.terminate()
            server.wait()


@contextmanager
def _recorded(study: Study, name: str, upstream: str) -> Iterator[str]:
    """A relay whose address stays the same when a run goes on: it is a part of what a run was asked on."""
    kept = study.folder / "port.txt"
    if not kept.exists():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            kept.write_text(str(probe.getsockname()[1]), encoding="utf-8")
    with relay(int(kept.read_text(encoding="utf-8")), upstream, study.folder / f"{name}.requests.jsonl") as address:
        yield address


def _native_environment(folder: Path) -> Path:
    """A virtual environment with guidance's llama.cpp, which is compiled: minutes."""
    environment = folder / "native-environment"
    python = environment / "bin" / "python"
    if not (environment / "made").exists():
        _run(sys.executable, "-m", "venv", environment)
        _run(python, "-m", "pip", "install", "--quiet", *NATIVE_PACKAGES)
        (environment / "made").touch()
    return python
