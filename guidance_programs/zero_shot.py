"""Zero shot: the question, its choices with their numbers, and nothing else to go by."""

from typing import Any

import guidance
from guidance import assistant, select, system, user


@guidance
def zero_shot(lm: Any, question: str, choices: list[str]) -> Any:
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


def guidance_generation(lm: Any, input: dict[str, Any]) -> dict[str, Any]:
    """Answer one dataset line with the 0-based index of the chosen answer."""
    lm += zero_shot(input["question"], input["choices"])
    return {"zero_shot_choice": int(lm["choice"])}
