"""The second step of the tests' pipeline: counts the lines of the first one's output."""

import sys
from pathlib import Path

rows, folder = Path(sys.argv[1]), Path(sys.argv[2])
count = len(rows.read_text(encoding="utf-8").splitlines())
(folder / "total.txt").write_text(str(count), encoding="utf-8")
print(f"total {count}")
