"""Few shot with the nearest examples: the k solved questions, of any subject, that are most like the one to answer.

Examples chosen by their nearness to the question are from Liu et al. 2022, "What Makes Good In-Context Examples for
GPT-3?", and a part of Medprompt (Nori et al. 2023). Both compare embeddings; here it is words, by BM25 (Robertson and
Zaragoza 2009). The nearest example comes last: a model leans towards what it read last (Zhao et al. 2021, "Calibrate
Before Use"). Of two equally near ones the first in the dataset counts as nearer. One call a line.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import bm25s
import guidance
from guidance import assistant, select, system, user

Line = Mapping[str, Any]
_indexing = threading.Lock()


@guidance
def few_shot_knn(lm: Any, nearest: Iterable[Line], question: str, choices: Sequence[str]) -> Any:
    """Show solved questions, then ask one; the number of the answer is captured as `choice`."""
    with system():
        lm += "You take a multiple choice test. Exactly one choice is correct. Answer with its number only."
    for example in nearest:
        with user():
            lm += _asked(example["question"], example["choices"])
        with assistant():
            lm += str(int(example["correct_answer"]))  # it may be in digits, such as "00"
    with user():
        lm += _asked(question, choices)
    with assistant():
        lm += select([str(number) for number in range(len(choices))], name="choice")
    return lm


def _asked(question: str, choices: Sequence[str]) -> str:
    numbered = "".join(f"{number}: {choice}\n" for number, choice in enumerate(choices))
    return f"{question}\n\n{numbered}\nThe number of the correct choice is:"


def _nearest(input: Line, examples: Sequence[Line], k: int) -> list[Line]:
    """The k nearest examples, the nearest one last."""
    lasting = type(examples).__hash__ is object.__hash__  # hashed by identity; a list may change until the next line
    with _indexing:  # one thread makes the index, the others wait for it
        index = (_index if lasting else _index.__wrapped__)(examples)
    scores = index.get_scores_from_ids(index.get_tokens_ids(*_words([input])))
    order = (-scores.round(6)).argsort(kind="stable")  # the last digits depend on the processor
    return [examples[place] for place in reversed(order[:k])]


@lru_cache(maxsize=8)
def _index(examples: Sequence[Line]) -> bm25s.BM25:
    index = bm25s.BM25(dtype="float64")
    index.index(_words(examples), show_progress=False)
    return index


def _words(lines: Iterable[Line]) -> list[list[str]]:
    texts = [" ".join([line["question"], *map(str, line["choices"])]) for line in lines]
    found = bm25s.tokenize(texts, stopwords="english", return_ids=False, show_progress=False)
    return [words or [" "] for words in found]  # bm25s takes no text without a word


def guidance_check(input: Line, examples: Sequence[Line], *, k: int = 5) -> None:
    """Refuse to go on with fewer than k examples, or with none, by a ValueError."""
    if not 1 <= k <= len(examples):
        raise ValueError(f"k is {k}; it must be at least 1 and at most {len(examples)}, the number of examples")
    if not all(str(example.get("correct_answer")).isdigit() for example in examples):
        raise ValueError("the examples must have the key 'correct_answer', the index of the right choice")


def guidance_generation(lm: Any, input: Line, examples: Sequence[Line], *, k: int = 5) -> dict[str, Any]:
    """Answer one dataset line with the 0-based index of the chosen answer, after the k examples nearest to it."""
    guidance_check(input, examples, k=k)
    lm += few_shot_knn(_nearest(input, examples, k), input["question"], input["choices"])
    return {"few_shot_knn_choice": int(lm["choice"])}
