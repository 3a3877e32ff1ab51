"""The benchmark that makes the table of docs/programs.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks import programs
from benchmarks.markdown import END

from tests.programs.conftest import Line, solved
from tests.servers.aoai import AoaiServer, default_answer


def test_every_program_has_its_row_and_what_is_finished_is_not_asked_again(
    write_lines: Callable[[str, list[Line]], Path],
    write_config: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{programs.BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    with AoaiServer(answer=default_answer) as server:
        options = [
            f"--dataset={write_lines('lines.jsonl', [solved(number) for number in range(9)])}",
            f"--examples={write_lines('examples.jsonl', [solved(number) for number in range(20, 26)])}",
            f"--other-config={write_config(server.endpoint)}",
            f"--folder={tmp_path / 'sweep'}",
            "--lines=4",
        ]
        programs.main(*options)
        assert len(server.requests) == 4 * (1 + 1 + 1 + 2 + 5)
        programs.main(*options, f"--write={page}")
        assert len(server.requests) == 4 * (1 + 1 + 1 + 2 + 5)
    told = page.read_text(encoding="utf-8")
    assert told.startswith(f"before\n{programs.BEGIN}\n4 lines of `lines`, drawn with seed 1; gpt-4o")
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"| `{name}`" for name in programs.PROGRAMS]
    assert [row[8] for row in rows] == ["1", "1", "1", "2", "5"]
    assert "old" not in told
    assert capsys.readouterr().out.count("| `zero_shot_cot` |") == 2
