"""Few shot: k solved questions of the same subject come first, each as a turn of its own.

The way that MMLU is mostly reported (Hendrycks et al. 2021, "Measuring Massive Multitask Language Understanding", with
k = 5); solved questions as a prompt are those of Brown et al. 2020, "Language Models are Few-Shot Learners". On a chat
endpoint each of them is a question by the user and its number by the assistant. They are the first k of the subject, in
the order of their dataset, so all questions of a subject begin with the same text. With k = 0 there are as many as the
subject has, at most five. One call a line.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import guidance
from guidance import assistant, select, system, user

USUAL = 5
Line = Mapping[str, Any]


@guidance
def few_shot(lm: Any, solved: Iterable[Line], question: str, choices: Sequence[str]) -> Any:
    """Show solved questions, then ask one; the number of the answer is captured as `choice`."""
    with system():
        lm += "You take a multiple choice test. Exactly one choice is correct. Answer with its number only."
    for example in solved:
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


def _solved(input: Line, examples: Sequence[Line], k: int) -> list[Line]:
    if k < 0:
        raise ValueError(f"k is {k}; it must be at least 1, or 0 for as many as there are, at most {USUAL}")
    if (subject := input.get("subject")) is None:
        raise ValueError("the line has no key 'subject' to find examples by; few_shot_knn needs none")
    found = [example for example in examples if example.get("subject") == subject][: k or USUAL]
    if not found:
        raise ValueError(f"the examples have none of the subject {subject!r} (the line itself does not count)")
    if len(found) < k:
        raise ValueError(f"k is {k}, but the examples have only {len(found)} of the subject {subject!r}; lower k")
    if not all(str(example.get("correct_answer")).isdigit() for example in found):
        raise ValueError("the examples must have the key 'correct_answer', the index of the right choice")
    return found


def guidance_check(input: Line, examples: Sequence[Line], *, k: int = 0) -> None:
    """Refuse a line whose subject has fewer than k examples, by a ValueError."""
    _solved(input, examples, k)


def guidance_generation(lm: Any, input: Line, examples: Sequence[Line], *, k: int = 0) -> dict[str, Any]:
    """Answer one dataset line with the 0-based index of the chosen answer, after k examples of its subject."""
    lm += few_shot(_solved(input, examples, k), input["question"], input["choices"])
    return {"few_shot_choice": int(lm["choice"])}
