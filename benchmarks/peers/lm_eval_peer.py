"""lm-eval: python lm_eval_peer.py WARM_UP DATASET URL CONNECTIONS"""

import json
import sys
import time
from urllib.request import urlopen

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

warm_up, dataset, url, connections = sys.argv[1:]
CHOICES = "{% for choice in choices %}{{loop.index0}}: {{choice}}\n{% endfor %}"
TASK = {
    "task": "questions",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}\n\n" + CHOICES + "\nThe letter of the correct choice is:",
    "doc_to_target": "{{'ABCD'[correct_answer]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16, "do_sample": False},
    "filter_list": [
        {"name": "letter", "filter": [{"function": "regex", "regex_pattern": "([ABCD])$"}, {"function": "take_first"}]}
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def run(path: str) -> None:
    found = simple_evaluate(
        model="local-chat-completions",
        model_args={
            "model": "gpt-4o",
            "base_url": f"{url}/openai/deployments/dep/chat/completions?api-version=2024-10-21",
            "num_concurrent": int(connections),
            "max_retries": 1,
            "tokenized_requests": False,
        },
        tasks=[TASK | {"dataset_kwargs": {"data_files": {"test": path}}}],
        task_manager=TaskManager(include_defaults=False),  # which reads thousands of files otherwise
        apply_chat_template=True,
        log_samples=True,
        bootstrap_iters=0,
    )
    assert found["n-samples"]["questions"]["effective"] > 0


run(warm_up)
urlopen(url).close()  # the endpoint counts anew
started, cpu = time.perf_counter(), time.process_time()
run(dataset)
print(json.dumps([time.process_time() - cpu, time.perf_counter() - started]))
