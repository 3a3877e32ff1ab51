"""Choice-shuffle ensemble: the same question n times, its choices in other orders, and a vote.

From Medprompt (Nori et al. 2023, "Can Generalist Foundation Models Outcompete Special-Purpose Tuning?"): a model that
likes a position rather than an answer contradicts itself when the choices move. The first order is the dataset's own,
so n = 1 is zero shot; the others are drawn at random, each for itself, by the seed and the question alone, so a line
gets the same ones in any run. Of choices with equally many votes, the one that was voted for first wins. The confidence
is the winner's share of the votes. n calls a line.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import guidance
from guidance import assistant, select, system, user


@guidance
def ask(lm: Any, question: str, choices: Sequence[str]) -> Any:
    """Ask one multiple choice question; the number of the answer is captured as `choice`."""
    with system():
        lm += "You take a multiple choice test. Exactly one choice is correct. Answer with its number only."
    with user():
        lm += f"{question}\n\n"
        for number, choice in enumerate(choices):
            lm += f"{number}: {choice}\n"
        lm += "\nThe number of the correct choice is:"
    with assistant():
        lm += select([str(number) for number in range(len(choices))], name="choice")
    return lm


def _orders(question: str, count: int, n: int, seed: int) -> Iterator[list[int]]:
    """The given order of so many indices, and n - 1 shuffled ones."""
    draw = random.Random(f"{seed} {question!a}").random  # noqa: S311 - its numbers are the same in every Python
    given = list(range(count))
    yield given
    for _ in range(n - 1):
        yield sorted(given, key=lambda _: draw())


def guidance_check(input: dict[str, Any], *, n: int = 5, seed: int = 0) -> None:
    """Refuse a vote without voters, by a ValueError."""
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")


def guidance_generation(lm: Any, input: dict[str, Any], *, n: int = 5, seed: int = 0) -> dict[str, Any]:
    """Answer one dataset line with the 0-based index of the choice that most of n votes are for."""
    guidance_check(input, n=n, seed=seed)
    question, choices = input["question"], input["choices"]
    votes: list[int] = []
    for order in _orders(question, len(choices), n, seed):
        answered = lm + ask(question, [choices[index] for index in order])
        votes.append(order[int(answered["choice"])])
    ((choice, count),) = Counter(votes).most_common(1)  # of equal counts the one met first
    return {
        "choice_shuffle_ensemble_choice": choice,
        "choice_shuffle_ensemble_confidence": count / n,
        "choice_shuffle_ensemble_votes": votes,
    }
