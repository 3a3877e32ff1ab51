"""guidance's own constrained `select` on llama.cpp, as a run of mmlu-pipe: the reference of the study.

    python native.py MODEL.gguf DATASET.jsonl LINES PROGRAM.py FOLDER [--bos]

The model takes the endpoint's place by the hook `make_model`; program, dataset, ledger and score are those of every
other run, so `mmlu-pipe compare` reads the folder. Beside it, `FOLDER.choices.jsonl` gets what the engine saw where it
chose: the tokens before the choice, and the probability of each token that the grammar allowed. The same engine then
tells these probabilities once more as they are after the beginning that structured outputs give an answer.

guidance puts the token for "beginning of text" in front of every prompt. Where the model's file says that it takes
none, as llama.cpp's server heeds, it is left out here too; `--bos` keeps it.
"""

import json
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from guidance.chat import ChatMLTemplate
from guidance.models._base import Model
from guidance.models._engine import EngineInterpreter
from guidance.models._llama_cpp import LlamaCppEngine

import mmlu_pipe
from mmlu_pipe.plugins import manager

CONTEXT = 4096
LIKELY = 20
ZERO = {"n_tokens": 0, "n_cached": 0}  # guidance counts them for its own statistics
OPENING = b'{"choice":"'


class WatchedEngine(LlamaCppEngine):
    """guidance's engine; it keeps what it saw at the last choice.

    guidance evaluates every piece of text as it is added, and uses only what comes after the last. So here the model
    runs when a logit is looked at: the prompt is then one batch, as on the server, at a third of the time.
    """

    seen: dict[str, Any]
    allowed: Any

    def get_logits(self, token_ids: list[int], include_all_uncached_tokens: bool = False) -> Any:
        """The logits after these tokens, computed when they are used."""
        assert not include_all_uncached_tokens
        return {"logits": Later(lambda: super(WatchedEngine, self).get_logits(token_ids)["logits"])} | ZERO

    def get_next_token_with_top_k(self, *, logits: Any, token_ids: list[int], mask: Any, **more: Any) -> Any:
        """Choose as ever, and take the distribution down."""
        probabilities = softmax(logits)
        self.allowed = np.flatnonzero(np.frombuffer(mask, dtype=np.uint8)[: len(probabilities)])
        self.seen = {
            "tokens": list(map(int, token_ids)),
            "temperature": more["temperature"],
            "allowed": self._told(probabilities, self.allowed),
            "likely": self._told(probabilities, np.argsort(-probabilities)[:LIKELY]),
        }
        return super().get_next_token_with_top_k(logits=logits, token_ids=token_ids, mask=mask, **more)

    def choice(self) -> dict[str, Any]:
        """What was seen, and what the same options get where JSON comes before them."""
        tokens = self.seen["tokens"] + self.tokenizer.encode(OPENING)
        return self.seen | {"in_json": self._told(softmax(self.get_logits(tokens)["logits"][-1]), self.allowed)}

    def _told(self, probabilities: Any, ids: Any) -> list[list[Any]]:
        return [
            [self.tokenizer.decode([int(each)]).decode("utf-8", "replace"), float(probabilities[each])] for each in ids
        ]


class Later:
    """An array that is made when a part of it is asked for."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getitem__(self, place: Any) -> Any:
        return self._make()[place]


def softmax(logits: Any) -> Any:
    """Probabilities of all tokens."""
    found = np.exp(logits.astype(np.float64) - logits.max())
    return found / found.sum()


class Native:
    """The plugin: makes the model, and writes down each choice with its line."""

    def __init__(self, model: str, choices: Path, *, bos: bool) -> None:
        self._model, self._choices, self._bos = model, choices, bos
        self._engine: WatchedEngine | None = None
        self._lock = threading.Lock()

    @mmlu_pipe.hookimpl
    def make_model(self, endpoint: Any, options: dict[str, Any]) -> Any:
        """The engine, and nothing else, answers."""
        assert options["workers"] == 1, "one engine, one line at a time"
        engine = WatchedEngine(
            self._model, chat_template=ChatMLTemplate, n_ctx=CONTEXT, n_threads=1, n_threads_batch=1, verbose=False
        )
        if not self._bos and engine.model_obj.metadata.get("tokenizer.ggml.add_bos_token") == "false":
            engine.tokenizer._bos_token_id = None
        self._engine = engine
        return Model(interpreter=EngineInterpreter(engine), sampling_params={}, echo=False)

    @mmlu_pipe.hookimpl
    def line_finished(self, answer: Any) -> None:
        """One JSON line a choice."""
        assert self._engine is not None
        with self._lock, self._choices.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"line_number": answer.line_number, **self._engine.choice()}) + "\n")


def main() -> None:
    model, dataset, lines, program, folder, *options = sys.argv[1:]
    config = Path(f"{folder}.config.json")
    config.write_text(
        json.dumps(
            {
                "aoai_endpoint": "http://127.0.0.1:9",  # never asked
                "aoai_deployment": "native",
                "aoai_model": "native",
                "aoai_api_version": "2024-10-21",
            }
        ),
        encoding="utf-8",
    )
    manager().register(Native(model, Path(f"{folder}.choices.jsonl"), bos="--bos" in options))
    facts = {name: version(name) for name in ("guidance", "llama-cpp-python", "llguidance")}
    Path(f"{folder}.facts.json").write_text(json.dumps(facts), encoding="utf-8")
    mmlu_pipe.run(dataset, program, other_config=config, lines=lines, workers=1, output_dir=folder)


if __name__ == "__main__":
    main()
