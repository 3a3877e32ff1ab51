"""The program under test: it asks for the number of the right choice, and returns the choice's text, too."""

from typing import Any

import guidance
from guidance import assistant, select, system, user


@guidance
def multiple_choice(lm: Any, question: str, choices: list[str]) -> Any:
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
    """Answer one line of a dataset."""
    lm += multiple_choice(input["question"], input["choices"])
    number = int(lm["choice"])
    return {"my_choice": number, "my_text": input["choices"][number]}
