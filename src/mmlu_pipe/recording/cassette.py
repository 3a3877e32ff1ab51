"""A folder of recordings in vcrpy's cassette format: shards (shards.py), and the provenance beside them.

An exchange is found by what its request means (identity.py) and by how many equal ones its line made before. Shards
are written one appended list item an exchange, so that a killed recording keeps what it had, and are put in dataset
order at the end. Only where a recording stands is held in memory (index.py); it is read when it is played.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mmlu_pipe.errors import CassetteMiss, RecordingError
from mmlu_pipe.recording import index
from mmlu_pipe.recording.index import Indexed, Place, Span, Unused, has_room, is_full, part_before, part_of, put
from mmlu_pipe.recording.interactions import Exchange
from mmlu_pipe.recording.lock import locked
from mmlu_pipe.recording.nearest import Nearest
from mmlu_pipe.recording.order import replace_shards, shard_paths
from mmlu_pipe.recording.shards import (
    HEADER,
    Shard,
    append_item,
    dump_item,
    parse_item,
    parse_shard,
    read_content,
    read_shard,
    shard_name,
)
from mmlu_pipe.records import JsonObject

__all__ = ["Cassette", "Exchange", "Key"]

Key = tuple[str, int]
"""(request hash, how many equal requests the line made before)."""

_LAST, _NAMED = 1 << 62, 5
_log = logging.getLogger(__name__)


class _ChangedMeanwhile(Exception):
    """Somebody else changed a file: its order is left alone."""


class Cassette:
    """The recordings of one folder; safe to share between threads.

    Args:
        folder: where the shards are; it need not exist before something is kept.
        fresh: record anew what is asked for, and play nothing (vcrpy's mode `all`).

    Attributes:
        existed: whether there were recordings before, as vcrpy's mode `once` asks.
        passed_over: how many recordings of others are of something else than a chat completion; they stay, unplayed.
        recorded: how many exchanges were kept since.

    Raises:
        RecordingError: a shard is no cassette, naming the file and the place.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder = folder
        self.recorded = 0
        self.passed_over = 0
        self._lock = threading.Lock()
        self._places: dict[Key, Place] = {}
        self._replaced: dict[Key, Place] = {}
        self._used: dict[Key, tuple[int, int]] = {}
        self._hidden: list[Place] = []  # recordings whose key another one has
        self._waiting: dict[str, Path] = {}  # shards that are not in their place, and cannot be moved there
        self._stems: dict[str, str] = {}  # lower-case name → the file's own spelling of it
        self._foreign: set[str] = set()  # shards of others, which stay as they are
        self._shared: set[str] = set()  # shards that somebody else appends to: their order is left alone
        self._sizes: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._torn: dict[str, tuple[int, int]] = {}  # (size, size of the whole items)
        self._changed: set[str] = set()
        self._parsed: dict[str, dict[Key, Exchange]] = {}  # of files without spans
        self._nearest = Nearest()
        self.existed = self._load()
        if fresh:
            self._replaced, self._places = self._places, {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def used(self) -> int:
        """How many recordings the run has used so far."""
        return len(self._used)

    def unused(self) -> Unused:
        """The recordings that the run has not used so far."""
        with self._lock:
            left = (self._replaced | self._places).items()
            unplayed = [place for key, place in left if key not in self._used] + self._hidden
            places = sorted((part_of(place.stem), place.number, place.stem) for place in unplayed)
        return Unused(len(places), tuple((f"{stem}.yaml", number) for _, number, stem in places[:_NAMED]))

    def find(self, key: Key, line_number: int) -> Exchange | None:
        """The recording under a key, if there is one; the line is noted for the order of the shards.

        Raises:
            RecordingError: its file was changed meanwhile, and has it no more.
        """
        with self._lock:
            place = self._places.get(key)
            if place is None:
                return None
            self._note(key, line_number)
        return self._read(key, place)

    def keep(self, key: Key, shard: str, line_number: int, exchange: Exchange) -> None:
        """Append a recording to its shard at once, and play it from now on.

        Raises:
            RecordingError: it cannot be written.
        """
        with self._lock:
            if key in self._places:
                return
            if self._waiting:
                raise RecordingError(
                    f"{self.folder.name}: an order of it that was broken off cannot be ended; run again"
                )
            says = key[1] if key[1] or key in self._replaced else None
            piece = dump_item(exchange.to_item(says))
            stem = self._stem(shard_name(shard), len(piece))
            expected = self._torn.get(stem, (self._sizes.get(stem, 0), 0))[0]
            before, span = append_item(self._path(stem), piece, self._torn.pop(stem, None))
            if before != expected:
                self._shared.add(stem)
            self._sizes[stem] = span.offset + span.length
            self._counts[stem] += 1
            self._places[key] = Place(stem, self._counts[stem], says, span)
            self._note(key, line_number)
            self._changed.add(stem)
            self.recorded += 1

    def finish(self) -> None:
        """Put changed shards in dataset order; recordings that were not used follow in the order they had.

        Raises:
            RecordingError: a shard cannot be written; it is as before.
        """
        if not self._changed:
            return
        with self._lock, locked(self.folder):
            outdated = {key: place.stem for key, place in self._replaced.items() if key in self._places}
            whole = self._replaced | self._places
            groups: dict[str, set[str]] = defaultdict(set)
            for stem in self._sizes.keys() - self._foreign:
                groups[self._group(stem)].add(stem)
            members: dict[str, list[Key]] = defaultdict(list)
            for key, place in whole.items():
                members[self._group(place.stem)].append(key)
            changed = {self._group(stem) for stem in self._changed | set(outdated.values())}
            for group in sorted(changed & groups.keys()):
                stems = sorted(groups[group], key=part_of)
                if not stems or any(
                    stem in self._shared or self._size_now(stem) != self._sizes[stem] for stem in stems
                ):
                    continue  # somebody else appends to it
                keys = [key for key in members[group] if whole[key].stem in groups[group]]
                keys.sort(
                    key=lambda key: (*self._used.get(key, (_LAST, 0)), *part_of(whole[key].stem), whole[key].number)
                )
                elsewhere = {key for key in keys if key in outdated and outdated[key] not in stems}
                with suppress(_ChangedMeanwhile):
                    self._rewrite(group, stems, keys, whole, elsewhere)
            self._changed.clear()

    def miss(self, body: JsonObject, model: str) -> CassetteMiss:
        """The error for a request without a recording: what differs from the nearest one, and what to do."""
        nearest = self._nearest.difference(body, model, self._bodies)
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
        return self._waiting.get(stem) or self.folder / f"{stem}.yaml"

    def _read(self, key: Key, place: Place) -> Exchange:
        path = self._path(place.stem)
        piece = index.read_piece(path, place.span) if place.span else None
        if piece is not None:
            return parse_item(piece)[0]
        with self._lock:
            moved = self._places.get(key, self._replaced.get(key, place))
            if moved == place:
                if place.stem not in self._parsed:
                    rows = ((each.identity, says, each) for each, says in read_shard(path).items)
                    put(self._parsed.setdefault(place.stem, {}), rows)
                found = self._parsed[place.stem].get(key)
                if found is None:
                    raise RecordingError(f"{path}: was changed while it was in use; run again")
                return found
        return self._read(key, moved)

    def _bodies(self, most: int) -> Iterator[str]:
        """Request bodies from all over the cassette."""
        with self._lock:
            places = list(self._places.items())
        for key, place in places[:: max(1, len(places) // most)]:
            yield self._read(key, place).request_body

    def _stem(self, name: str, length: int) -> str:
        """The shard of that name to append to, whatever its letter case; beside a full one or another's, a new one."""
        for number in itertools.count(1):
            candidate = name if number == 1 else f"{name}-{number}"
            stem = self._stems.setdefault(candidate, candidate)
            if stem not in self._foreign and has_room(self._counts[stem], self._sizes.get(stem, 0), length):
                return stem
        raise AssertionError("count() does not end")

    def _taken(self, name: str) -> bool:
        return name in self._stems or self._path(name).exists()

    def _group(self, stem: str) -> str:
        """The name that a shard is a part of: it follows one that is full, or another's."""
        while (before := self._stems.get(part_before(stem.lower()))) is not None:
            if before not in self._foreign and not is_full(self._counts[before], self._sizes.get(before, 0)):
                break
            stem = before
        return stem.lower()

    def _rewrite(self, group: str, stems: list[str], keys: list[Key], whole: dict[Key, Place], said: set[Key]) -> None:
        """Spread recordings, in the order of keys, over the parts of a name.

        Those in `said` say their occurrence in any case, since a file of others has an older recording of them.
        """
        fresh = (f"{group}-{number}" for number in itertools.count(2))
        names = itertools.chain(stems, (self._stems.setdefault(name, name) for name in fresh if not self._taken(name)))
        files: dict[str, list[bytes]] = {stem: [] for stem in stems}
        order: dict[str, list[tuple[Key, int | None]]] = defaultdict(list)
        stem, size = next(names), len(HEADER)
        for key in keys:
            says = key[1] if key[1] or key in said else None
            piece = self._piece(key, whole[key], says)
            if not has_room(len(order[stem]), size, len(piece)):
                stem, size = next(names), len(HEADER)
            files.setdefault(stem, []).append(piece)
            order[stem].append((key, says))
            size += len(piece)
        self._waiting = replace_shards(self.folder, files)
        self._hidden = [place for place in self._hidden if place.stem not in files]
        for stem, pieces in files.items():
            offset = len(HEADER)
            for number, (piece, (key, says)) in enumerate(zip(pieces, order[stem], strict=True), start=1):
                places = self._places if key in self._places else self._replaced
                places[key] = Place(stem, number, says, Span.of(offset, piece))
                offset += len(piece)
            self._sizes[stem], self._counts[stem] = offset, len(pieces)
            if not pieces:
                del self._sizes[stem], self._counts[stem]

    def _piece(self, key: Key, place: Place, says: int | None) -> bytes:
        """The bytes of a recording that says its occurrence or does not."""
        piece = index.read_piece(self._path(place.stem), place.span) if place.span else None
        if piece is None:
            raise _ChangedMeanwhile
        return piece if says == place.says else dump_item(parse_item(piece)[0].to_item(says))

    def _size_now(self, stem: str) -> int:
        try:
            return self._path(stem).stat().st_size
        except OSError as error:
            raise RecordingError(f"{self._path(stem)}: cannot be put in order ({error.strerror})") from error

    def _load(self) -> bool:
        """Find all recordings; whether there was a shard, as vcrpy sees it."""
        known = index.load(self.folder)
        found: dict[str, Indexed] = {}
        for stem, path in shard_paths(self.folder).items():
            content = read_content(path)
            digest = hashlib.sha256(content).hexdigest()
            shard = known.get(path.name)
            if shard is None or (shard.size, shard.digest) != (len(content), digest):
                shard = _indexed(parse_shard(path, content), digest)
            found[path.name] = shard
            self._stems.setdefault(stem.lower(), stem)
            self._sizes[stem], self._counts[stem] = shard.size, len(shard.items)
            if path.parent != self.folder:
                self._waiting[stem] = path
            if not shard.ours:
                self._foreign.add(stem)
            if shard.whole < shard.size:
                self._torn[stem] = (shard.size, shard.whole)
                _log.warning("%s: ends in a part of a recording, as a killed run leaves it; it is not played", path)
            if shard.passed_over:
                self.passed_over += shard.passed_over
                _log.info("%s: %d recordings are no chat completions and are not played", path, shard.passed_over)
            rows = ((identity, says, Place(stem, number, says, span)) for identity, number, says, span in shard.items)
            self._hidden += put(self._places, rows)
        if found != known:
            index.save(self.folder, found)
        return any(not shard.blank for shard in found.values())


def _indexed(shard: Shard, digest: str) -> Indexed:
    rows = zip(shard.items, shard.numbers, shard.spans or itertools.repeat(None), strict=False)
    items = [(exchange.identity, number, says, span) for (exchange, says), number, span in rows]
    return Indexed(shard.size, digest, shard.whole, shard.blank, shard.ours, shard.passed_over, items)
