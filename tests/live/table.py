"""The README's table of what was verified on Azure: `python -m tests.live.table [--write]`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.live.claims import CLAIMS
from tests.live.evidence import Proof, read

__all__ = ["BEGIN", "END", "main", "shown", "table"]

BEGIN = "<!-- verified on Azure; written by: python -m tests.live.table --write -->"
END = "<!-- end of what was verified -->"
README = Path(__file__).parents[2] / "README.md"


def table(evidence: Mapping[str, Proof]) -> str:
    """The headline, and a row for each claim."""
    verified = sum(claim.id in evidence and evidence[claim.id].passed for claim in CLAIMS)
    rehearsed = sum(bool(claim.rehearsed_by) for claim in CLAIMS)
    total = len(CLAIMS)
    rows = [
        f"Verified on Azure: **{verified or 'none yet'}** of {total} claims. Rehearsed on this machine: {rehearsed}.",
        "",
        "<details><summary>The claims</summary>",
        "",
        "| claim | on Azure | rehearsed by |",
        "| --- | --- | --- |",
        *(f"| {claim.text} | {_on_azure(evidence.get(claim.id))} | {_links(claim.rehearsed_by)} |" for claim in CLAIMS),
        "",
        "</details>",
    ]
    return "\n".join(rows)


def shown(page: str) -> str:
    """What stands between the two marks of a page."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def _on_azure(proof: Proof | None) -> str:
    if proof is None:
        return "not yet"
    return f"{'passed' if proof.passed else '**failed**'}, {proof.date}"


def _links(tests: tuple[str, ...]) -> str:
    paths = dict.fromkeys(test.partition("::")[0] for test in tests)
    return ", ".join(f"[{Path(path).stem}]({path})" for path in paths) or "nothing: only Azure can show it"


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
