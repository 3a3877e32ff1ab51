"""inspect-ai's `multiple_choice` with the prompt of lettered.py: ADDRESS DEPLOYMENT DATASET LINES FOLDER

Writes FOLDER/answers.jsonl: for each line the messages that its log holds, the reply, and the choice that it read.
"""

import json
import os
import sys
from pathlib import Path

address, deployment, dataset, lines, folder = sys.argv[1:]
os.environ |= {"AZUREAI_OPENAI_BASE_URL": address, "AZUREAI_OPENAI_API_VERSION": "2024-10-21"}

from inspect_ai import Task  # noqa: E402
from inspect_ai import eval as evaluate  # noqa: E402
from inspect_ai.dataset import MemoryDataset, Sample  # noqa: E402
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log  # noqa: E402
from inspect_ai.scorer import choice  # noqa: E402
from inspect_ai.solver import multiple_choice, system_message  # noqa: E402

from benchmarks.truth.lettered import SYSTEM, TEMPLATE  # noqa: E402


def samples() -> list[Sample]:
    wanted = set(map(int, lines.split(",")))
    found = []
    with Path(dataset).open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            if number in wanted:
                line = json.loads(text)
                target = "ABCDEFGHIJ"[line["correct_answer"]]
                found.append(Sample(id=number, input=line["question"], choices=line["choices"], target=target))
    return found


def log() -> EvalLog:
    """The finished log; it is made again from the start where it broke off, and the relay knows the answers so far."""
    for earlier in list_eval_logs(folder):
        found = read_eval_log(earlier, resolve_attachments=True)
        if found.status == "success":
            return found
    task = Task(
        dataset=MemoryDataset(samples()),
        solver=[system_message(SYSTEM), multiple_choice(template=TEMPLATE)],
        scorer=choice(),
    )
    (made,) = evaluate(
        task,
        model=f"openai/azure/{deployment}",
        temperature=0,
        timeout=3600,
        max_connections=1,
        max_samples=1,
        log_dir=folder,
        log_model_api=True,
        log_level="error",
        display="none",
        score_display=False,
    )
    return read_eval_log(made.location, resolve_attachments=True)


def main() -> None:
    found = log()
    assert found.status == "success", found.error
    with Path(folder, "answers.jsonl").open("w", encoding="utf-8") as file:
        for sample in sorted(found.samples or [], key=lambda each: int(each.id)):
            (score,) = (sample.scores or {}).values()
            (asked,) = [event for event in sample.events if event.event == "model"]
            told = {
                "line_number": int(sample.id),
                "messages": asked.call.request["messages"],
                "reply": sample.output.completion,
                "stop_reason": sample.output.stop_reason,
                "answer": ord(score.answer) - ord("A") if score.answer else None,
                "correct": score.value == "C",
            }
            file.write(json.dumps(told, ensure_ascii=False) + "\n")


main()
