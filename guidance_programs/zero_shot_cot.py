"""Zero-shot chain of thought: the model reasons first, briefly, and then chooses.

The two prompts of Kojima et al. 2022, "Large Language Models are Zero-Shot Reasoners": one that draws out the reasoning
("Let's think step by step"), one that draws the answer out of it. Here the second is a turn of its own, since a chat
endpoint ends a turn where the model does. A reasoning that is cut at `max_tokens` fails its line (`Truncated`), rather
than being judged by its first half; so the prompt asks for a brief one. Two calls a line.
"""

from collections.abc import Sequence
from typing import Any

import guidance
from guidance import assistant, gen, select, system, user


@guidance
def zero_shot_cot(lm: Any, question: str, choices: Sequence[str], max_tokens: int) -> Any:
    """Let the model reason, then choose; captured as `reasoning` and, the number of the answer, `choice`."""
    with system():
        lm += "You take a multiple choice test. Exactly one choice is correct. You write briefly."
    with user():
        lm += f"{question}\n\n"
        for number, choice in enumerate(choices):
            lm += f"{number}: {choice}\n"
        lm += "\nLet's think step by step, in at most three short sentences."
    with assistant():
        lm += gen(name="reasoning", max_tokens=max_tokens)
    with user():
        lm += "So the number of the correct choice is:"
    with assistant():
        lm += select([str(number) for number in range(len(choices))], name="choice")
    return lm


def guidance_check(input: dict[str, Any], *, max_tokens: int = 512) -> None:
    """Refuse a limit that no reasoning keeps, by a ValueError."""
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 1")


def guidance_generation(lm: Any, input: dict[str, Any], *, max_tokens: int = 512) -> dict[str, Any]:
    """Answer one dataset line with the reasoning and the 0-based index of the chosen answer."""
    lm += zero_shot_cot(input["question"], input["choices"], max_tokens)
    return {"zero_shot_cot_choice": int(lm["choice"]), "zero_shot_cot_reasoning": lm["reasoning"]}
