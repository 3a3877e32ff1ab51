"""The bundled programs on lines of a real dataset, as one sweep, each compared with the first.

    python -m benchmarks programs --dataset=FILE.jsonl --examples=FILE.jsonl --other-config=FILE.json --folder=DIR
        [--write=docs/programs.md]

What is finished in the folder is not asked again, so a broken-off study goes on where it was. The page tells what it
shows.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.markdown import accuracy, difference, put, table
from mmlu_pipe import Comparison, compare, sweep
from mmlu_pipe.grid import CellResult
from mmlu_pipe.runfolder import RunFolder

BEGIN = "<!-- measured; written by: python -m benchmarks programs --write=docs/programs.md -->"
PROGRAMS = ("zero_shot", "few_shot", "few_shot_knn", "zero_shot_cot", "choice_shuffle_ensemble")
HEAD = (
    "program",
    "accuracy (95 %, Wilson)",
    "difference in points (95 %)",
    "only `zero_shot` right",
    "only this right",
    "McNemar p",
    "p by Holm",
    "failed",
    "calls a line",
    "tokens a line: prompts",
    "answers",
)


def main(*options: str) -> None:
    """Ask what has not been asked, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks programs", description="Options: --name=VALUE.")
    parser.add_argument("--dataset", type=Path, required=True, help="JSONL file, as create-dataset writes it")
    parser.add_argument("--examples", type=Path, required=True, help="the same, for the programs that show examples")
    parser.add_argument("--other-config", type=Path, required=True, help="deployment; mmlu-pipe serve writes one")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the sweep")
    parser.add_argument("--lines", type=int, default=200, help="how many lines of the dataset, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", type=Path, help="page whose table is written anew")
    given = parser.parse_args(options)
    with given.dataset.open("rb") as file:
        total = sum(1 for _ in file)
    drawn = sorted(random.Random(given.seed).sample(range(1, total + 1), given.lines))
    found = sweep(
        over={"guidance_program": PROGRAMS},
        dataset=given.dataset,
        examples=given.examples,
        other_config=given.other_config,
        lines=",".join(map(str, drawn)),
        workers=given.workers,
        timeout=3600,
        max_errors="100%",
        output_dir=given.folder,
    )
    if found.failed:
        raise SystemExit("\n".join(f"{cell.name}: {cell.error}" for cell in found.failed))
    folders = [cell.run_dir for cell in found.cells]
    rows = _rows(found.cells, compare(folders, allow=("program", "settings")))
    measured = f"{len(drawn)} lines of `{given.dataset.stem}`, drawn with seed {given.seed}; {_asked(folders[0])}."
    told = f"{measured}\n\n{table(HEAD, rows)}"
    print(told)
    if given.write:
        put(given.write, BEGIN, told)


def _rows(cells: Sequence[CellResult], beside_first: Sequence[Comparison]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for cell, beside in zip(cells, (None, *beside_first), strict=True):
        score = cell.score
        assert score is not None
        assert score.ci95 is not None
        assert score.accuracy is not None
        row: tuple[object, ...] = (f"`{cell.options['guidance_program']}`", accuracy(score.accuracy, score.ci95))
        if beside is None:
            row += ("",) * 5
        else:
            row += (
                difference(beside.delta, beside.ci95),
                beside.cells.only_a,
                beside.cells.only_b,
                f"{beside.p_value:.2g}",
                f"{beside.p_holm:.2g}",
            )
        tokens = (f"{cell.tokens[kind] / score.count:,.0f}" for kind in ("prompt_tokens", "completion_tokens"))
        rows.append((*row, score.failed, f"{cell.calls / score.count:.3g}", *tokens))
    return rows


def _asked(folder: Path) -> str:
    told = json.loads(RunFolder(folder).manifest.read_text(encoding="utf-8"))
    asked = told["run"]
    return f"{asked['model']} (`{'`, `'.join(asked['fingerprints'])}`), {told['finished'][:10]}"
