"""inspect-ai: python inspect_ai_peer.py WARM_UP DATASET URL CONNECTIONS"""

import json
import os
import sys
import tempfile
import time
from urllib.request import urlopen

warm_up, dataset, url, connections = sys.argv[1:]
os.environ |= {"AZUREAI_OPENAI_BASE_URL": url, "AZUREAI_OPENAI_API_VERSION": "2024-10-21"}

from inspect_ai import Task  # noqa: E402
from inspect_ai import eval as evaluate  # noqa: E402
from inspect_ai.dataset import Sample, json_dataset  # noqa: E402
from inspect_ai.scorer import choice  # noqa: E402
from inspect_ai.solver import multiple_choice  # noqa: E402


def sample(line: dict[str, object]) -> Sample:
    return Sample(input=line["question"], choices=line["choices"], target="ABCD"[line["correct_answer"]])


def run(path: str) -> None:
    with tempfile.TemporaryDirectory() as logs:
        (log,) = evaluate(
            Task(dataset=json_dataset(path, sample), solver=multiple_choice(), scorer=choice()),
            model="openai/azure/dep",
            max_connections=int(connections),
            max_samples=int(connections),
            max_retries=0,
            display="none",
            log_level="error",
            log_dir=logs,
            log_realtime=False,
            score_display=False,
        )
    assert log.status == "success", log.error


run(warm_up)
urlopen(url).close()  # the endpoint counts anew
started, cpu = time.perf_counter(), time.process_time()
run(dataset)
print(json.dumps([time.process_time() - cpu, time.perf_counter() - started]))
