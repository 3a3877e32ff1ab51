"""Zero shot, with the choices lettered and the answer spelt as inspect-ai's `multiple_choice` wants them."""

from typing import Any

import guidance
from guidance import assistant, select, system, user

SYSTEM = "You take a multiple choice test. Exactly one choice is correct. Answer only with 'ANSWER: ' and its letter."
TEMPLATE = "{question}\n\n{choices}\n\nThe letter of the correct choice, in that form:"
ANSWER = "ANSWER: {letter}"


@guidance
def lettered(lm: Any, question: str, choices: list[str]) -> Any:
    """Ask one multiple choice question; the answer is captured as `choice`."""
    letters = [chr(ord("A") + number) for number in range(len(choices))]
    shown = "\n".join(f"{letter}) {choice}" for letter, choice in zip(letters, choices, strict=True))
    with system():
        lm += SYSTEM
    with user():
        lm += TEMPLATE.format(question=question, choices=shown)
    with assistant():
        lm += select([ANSWER.format(letter=letter) for letter in letters], name="choice")
    return lm


def guidance_generation(lm: Any, input: dict[str, Any]) -> dict[str, Any]:
    """Answer one dataset line with the 0-based index of the chosen answer."""
    lm += lettered(input["question"], input["choices"])
    return {"lettered_choice": ord(lm["choice"][-1]) - ord("A")}
