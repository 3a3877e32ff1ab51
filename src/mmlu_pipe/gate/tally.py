"""What the lines of a verification add up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mmlu_pipe.errors import CassetteMiss
from mmlu_pipe.gate.lines import LineReport
from mmlu_pipe.gate.result import Miss, Problem, Prompts
from mmlu_pipe.gate.stub import SHORT_TEXT
from mmlu_pipe.recording.nearest import difference_kind

__all__ = ["Tally"]

SHOWN_MISSES = 3
MAX_TOLD = 500
_PROBLEMS = {
    "stops": "would stop the run",
    "raises": "the program raises an exception",
}


@dataclass
class _Group:
    lines: int = 0
    first_line: int = 0
    told: str = ""

    def add(self, number: int, told: str) -> None:
        if not self.lines or number < self.first_line:
            self.first_line, self.told = number, told[:MAX_TOLD]
        self.lines += 1


@dataclass
class Tally:
    """Counts over replayed and rendered lines.

    Attributes:
        texts: the first free text that was replayed at each place in a line.
    """

    covered: list[int] = field(default_factory=list)
    rendered: int = 0
    good: int = 0
    asked: int = 0
    missing: int = 0
    missing_lines: list[int] = field(default_factory=list)
    misses_by_kind: Counter[str] = field(default_factory=Counter)
    first_misses: list[Miss] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    _problems: dict[str, _Group] = field(default_factory=dict)
    _unclear: _Group = field(default_factory=_Group)
    _unanswered: dict[str, _Group] = field(default_factory=dict)
    _calls: int = 0
    _characters: int = 0
    _longest: tuple[int, int | None] = (0, None)
    _counted_characters: int = 0
    _counted_tokens: int = 0

    def replayed(self, report: LineReport) -> None:
        """Add a line that was answered from recordings."""
        self.covered.append(report.line_number)
        self.asked += len(report.calls)
        self.missing += report.missing
        if report.verdict == "missing":
            self._miss(report)
        for call, characters in zip(report.calls, report.characters, strict=True):
            tokens = _count(call.usage, "prompt_tokens")
            if tokens and characters:
                self._counted_tokens += tokens
                self._counted_characters += characters
        for place, call in enumerate(report.calls):
            if place == len(self.texts) and call.error is None:
                self.texts.append(call.text or "" if call.strategy is None else SHORT_TEXT)
        self._add(report, "replayed")

    def stubbed(self, report: LineReport) -> None:
        """Add a line that was only rendered."""
        self.rendered += 1
        self._add(report, "rendered")

    def problems(self) -> tuple[Problem, ...]:
        """What stands against passing, besides missing recordings."""
        found = [_problem(_PROBLEMS[kind], self._problems[kind]) for kind in _PROBLEMS if kind in self._problems]
        unanswered = self._unanswered.get("replayed")
        if unanswered and not self.good and not self.missing:
            found.append(_problem("no replayed line has an answer", unanswered))
        return tuple(found)

    def warnings(self) -> list[str]:
        """What should be known of the lines, and does not stand against passing."""
        found = []
        for how, group in sorted(self._unanswered.items()):
            found.append(f"{group.lines} {how} lines get no answer; the first, line {group.first_line}: {group.told}")
        if self._unclear.lines:
            found.append(
                f"on {self._unclear.lines} lines the program raises an exception at a free text, where another text "
                f"may go well; the first, line {self._unclear.first_line}: {self._unclear.told}"
            )
        return found

    def prompts(self) -> Prompts:
        """Size of all prompts, with tokens by the ratio of the replayed calls."""
        ratio = self._counted_tokens / self._counted_characters if self._counted_characters else None
        longest, line = self._longest
        return Prompts(
            calls=self._calls,
            characters=self._characters,
            longest=longest,
            longest_line=line,
            tokens=None if ratio is None else round(self._characters * ratio),
            longest_tokens=None if ratio is None else round(longest * ratio),
        )

    def _miss(self, report: LineReport) -> None:
        self.missing_lines.append(report.line_number)
        if isinstance(report.error, CassetteMiss):
            told = report.error.nearest or "the cassette holds nothing like it"
            kind = difference_kind(report.error.nearest)
        else:
            told = kind = "hidden by the program, which goes on without an answer"
        self.misses_by_kind[kind] += max(report.missing, 1)
        if len(self.first_misses) < SHOWN_MISSES:
            self.first_misses.append(Miss(report.line_number, told))

    def _add(self, report: LineReport, how: str) -> None:
        verdict = report.verdict
        if verdict == "good" and how == "replayed":
            self.good += 1
        elif verdict in _PROBLEMS:
            self._problems.setdefault(verdict, _Group()).add(report.line_number, report.told)
        elif verdict == "unclear":
            self._unclear.add(report.line_number, report.told)
        elif verdict == "unanswered":
            self._unanswered.setdefault(how, _Group()).add(report.line_number, report.told)
        for characters in report.characters:
            self._calls += 1
            self._characters += characters
            if characters > self._longest[0]:
                self._longest = (characters, report.line_number)


def _problem(kind: str, group: _Group) -> Problem:
    return Problem(kind, group.lines, group.first_line, group.told)


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if usage else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
