"""A folder of recordings in vcrpy's cassette format: shards (shards.py), and the provenance beside them.

An exchange is found by what its request means (identity.py) and by how many equal ones its line made before. Shards
are written one appended list item an exchange, so that a killed recording keeps what it had, and are put in dataset
order at the end.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from pathlib import Path

from mmlu_pipe.errors import CassetteMiss
from mmlu_pipe.recording.nearest import nearest_difference
from mmlu_pipe.recording.shards import Exchange, append_item, read_shard, replace_shard, shard_name
from mmlu_pipe.records import JsonObject

__all__ = ["Cassette", "Exchange", "Key"]

Key = tuple[str, int]
"""(request hash, how many equal requests the line made before)."""

_LAST = (1 << 62, 0)
_SHARED = -1  # size of a file that somebody else appends to: its order is left alone


class Cassette:
    """The recordings of one folder, in memory; safe to share between threads.

    Args:
        folder: where the shards are; it need not exist before something is kept.
        fresh: record anew what is asked for, and play nothing (vcrpy's mode `all`).

    Attributes:
        existed: whether there were recordings before, as vcrpy's mode `once` asks.
        recorded: how many exchanges were kept since.

    Raises:
        RecordingError: a shard is no cassette, naming the file and the place.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder = folder
        self.recorded = 0
        self._lock = threading.Lock()
        self._exchanges: dict[Key, tuple[str, Exchange]] = {}
        self._replaced: dict[Key, tuple[str, Exchange]] = {}
        self._used: dict[Key, tuple[int, int]] = {}
        self._stems: dict[str, str] = {}  # lower-case name → the file's own spelling of it
        self._foreign: set[str] = set()  # shards of others, which stay as they are
        self._sizes: dict[str, int] = {}
        self._changed: set[str] = set()
        self.existed = self._load()
        if fresh:
            self._replaced, self._exchanges = self._exchanges, {}

    def __len__(self) -> int:
        return len(self._exchanges)

    @property
    def used(self) -> int:
        """How many recordings the run has used so far."""
        return len(self._used)

    def find(self, key: Key, line_number: int) -> Exchange | None:
        """The recording under a key, if there is one; the line is noted for the order of the shards."""
        with self._lock:
            found = self._exchanges.get(key)
            if found is None:
                return None
            self._note(key, line_number)
            return found[1]

    def keep(self, key: Key, shard: str, line_number: int, exchange: Exchange) -> None:
        """Append a recording to its shard at once, and play it from now on.

        Raises:
            RecordingError: it cannot be written.
        """
        with self._lock:
            if key in self._exchanges:
                return
            stem = self._stem(shard_name(shard))
            item = exchange.to_item(key[1] if key[1] or key in self._replaced else None)
            before, after = append_item(self._path(stem), item)
            self._sizes[stem] = after if before == self._sizes.get(stem, 0) else _SHARED
            self._exchanges[key] = (stem, exchange)
            self._note(key, line_number)
            self._changed.add(stem)
            self.recorded += 1

    def finish(self) -> None:
        """Put changed shards in dataset order; recordings that were not used follow in the order they had.

        Raises:
            RecordingError: a shard cannot be written; it is as before.
        """
        with self._lock:
            if not self._changed:
                return
            outdated = {key: stem for key, (stem, _) in self._replaced.items() if key in self._exchanges}
            whole = self._exchanges | {key: old for key, old in self._replaced.items() if key not in outdated}
            shards: dict[str, list[JsonObject]] = {
                stem: [] for stem in sorted(self._changed | set(outdated.values())) if stem not in self._foreign
            }
            for key in sorted(whole, key=lambda key: self._used.get(key, _LAST)):
                stem, exchange = whole[key]
                if stem in shards:
                    says = key[1] > 0 or outdated.get(key, stem) != stem
                    shards[stem].append(exchange.to_item(key[1] if says else None))
            for stem, items in shards.items():
                self._sizes[stem] = replace_shard(self._path(stem), items, self._sizes[stem])
            self._changed.clear()

    def miss(self, body: JsonObject, model: str) -> CassetteMiss:
        """The error for a request without a recording: what differs from the nearest one, and what to do."""
        with self._lock:
            recorded = [exchange.request_body for _, exchange in self._exchanges.values()]
        nearest = nearest_difference(body, model, recorded)
        told = f"; the nearest recording differs in {nearest}" if nearest else ""
        return CassetteMiss(
            f"{self.folder.name}: no recording for a request of the program{told}. Record it into a folder of your own "
            "with --other-config FILE --cassette DIR --record-mode new_episodes, or run the program and dataset it was "
            "made for",
            nearest=nearest,
        )

    def _note(self, key: Key, line_number: int) -> None:
        place = (line_number, key[1])
        self._used[key] = min(place, self._used.get(key, place))

    def _path(self, stem: str) -> Path:
        return self.folder / f"{stem}.yaml"

    def _stem(self, name: str) -> str:
        """The shard of that name to append to, whatever its letter case; beside a file of others, a new one."""
        for number in itertools.count(1):
            candidate = name if number == 1 else f"{name}-{number}"
            stem = self._stems.setdefault(candidate, candidate)
            if stem not in self._foreign:
                return stem
        raise AssertionError("count() does not end")

    def _load(self) -> bool:
        """Read all shards; whether there was one, as vcrpy sees it."""
        found = False
        for path in sorted(self.folder.glob("*.yaml")) if self.folder.is_dir() else ():
            shard = read_shard(path)
            found = found or not shard.blank
            self._stems.setdefault(path.stem.lower(), path.stem)
            self._sizes[path.stem] = shard.size
            if not shard.ours:
                self._foreign.add(path.stem)
            seen: Counter[str] = Counter()
            for exchange, says in shard.items:
                identity = exchange.identity
                if says is None:
                    self._exchanges.setdefault((identity, seen[identity]), (path.stem, exchange))
                    seen[identity] += 1
                else:  # of two that say the same, the later one is newer: a re-recording that was killed left both
                    self._exchanges[identity, says] = (path.stem, exchange)
        return found
