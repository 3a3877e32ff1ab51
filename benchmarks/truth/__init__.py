"""Is the measurement true? guidance's own `select`, each strategy on a chat endpoint, and inspect-ai, on one model.

    python -m benchmarks truth --model=FILE.gguf --dataset=FILE.jsonl --folder=DIR [--write=docs/truth.md]

What is finished in the folder is not asked again, so a broken-off study goes on where it was. docs/truth.md tells what
it shows. guidance's own engine needs llama-cpp-python, which has to be compiled: it gets a virtual environment in the
folder, or --native-python names one that has it and mmlu-pipe.
"""

import argparse
from pathlib import Path

from benchmarks.markdown import put
from benchmarks.truth.ask import Study, ask
from benchmarks.truth.page import BEGIN, report
from benchmarks.truth.reading import read


def main(*options: str) -> None:
    """Ask what has not been asked, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks truth", description="Options: --name=VALUE.")
    parser.add_argument("--model", type=Path, required=True, help="weights, a GGUF file")
    parser.add_argument("--dataset", type=Path, required=True, help="JSONL file, as create-dataset writes it")
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--lines", type=int, default=300, help="how many lines of the dataset, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--native-python", type=Path, help="a Python that has llama-cpp-python and mmlu-pipe")
    parser.add_argument("--write", type=Path, help="page whose tables are written anew")
    given = parser.parse_args(options)
    study = Study(given.folder.resolve(), given.model.resolve(), given.dataset.resolve(), given.lines, given.seed)
    ask(study, given.native_python)
    found = report(read(study))
    print(found)
    if given.write:
        put(given.write, BEGIN, found)
