"""The README's table of what was verified on Azure: `python -m tests.live.table [--write]`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.live.claims import CLAIMS, Claim
from tests.live.evidence import Proof, read

__all__ = ["BEGIN", "END", "main", "shown", "table"]

BEGIN = "<!-- verified on Azure; written by: python -m tests.live.table --write -->"
END = "<!-- end of what was verified -->"
README = Path(__file__).parents[2] / "README.md"


def table(evidence: Mapping[str, Proof]) -> str:
    """The headline, and a row for each claim."""
    verified = sum(claim.id in evidence and evidence[claim.id].passed for claim in CLAIMS)
    rehearsed = sum(claim.rehearsed for claim in CLAIMS)
    total = len(CLAIMS)
    rows = [
        f"Verified on Azure: **{verified or 'none yet'}**, of {total} claims. Rehearsed without it: {rehearsed}.",
        "",
        "<details><summary>Verified on Azure, or rehearsed only</summary>",
        "",
        "| claim | state | rehearsed by |",
        "| --- | --- | --- |",
        *(f"| {claim.text} | {_state(claim, evidence.get(claim.id))} | {_rehearsed_by(claim)} |" for claim in CLAIMS),
        "",
        "</details>",
    ]
    return "\n".join(rows)


def shown(page: str) -> str:
    """What stands between the two marks of a page."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def _state(claim: Claim, proof: Proof | None) -> str:
    if proof is None:
        return "rehearsed only" if claim.rehearsed else "not shown yet"
    return f"{'verified on Azure' if proof.passed else '**failed on Azure**'}, {proof.date}"


def _rehearsed_by(claim: Claim) -> str:
    paths = dict.fromkeys(test.partition("::")[0] for test in claim.rehearsed_by)
    links = [f"[{Path(path).stem}](tests/{path})" for path in paths]
    if claim.on_the_twin:
        links.append("[its live test, on the twin](tests/live/test_on_the_twin.py)")
    return ", ".join(links) or "only Azure can show it"


def main(arguments: list[str]) -> int:
    """Print the table, or write it into the README."""
    found = table(read())
    if arguments != ["--write"]:
        sys.stdout.write(found + "\n")
        return 0
    page = README.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        sys.stderr.write(f"{README.name} has no place for it: the two marks are missing\n")
        return 1
    before, _, rest = page.partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}", encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
