"""A process that has loaded the SDK, and forks for every task that it reads from stdin; see conftest.py."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any


def perform(task: dict[str, Any]) -> dict[str, Any]:
    os.environ.clear()
    os.environ.update(task["environment"])
    if task["hurry"]:  # waits before retries are short
        sleep = time.sleep
        time.sleep = lambda seconds: sleep(min(seconds, 0.05))
    module, _, name = task["do"].partition(":")
    try:
        return {"value": getattr(importlib.import_module(module), name)(task["config"], **task["arguments"])}
    except Exception as error:  # noqa: BLE001 - the test is told
        more = {name: value for name, value in vars(error).items() if isinstance(value, str | int | tuple | None)}
        told = {"type": type(error).__name__, "message": str(error), "attributes": more}
        return {"error": told | {"trace": traceback.format_exc()}}


def main() -> None:
    for name in ("ai.ml", "ai.ml.entities", "ai.ml.operations", "identity", "storage.blob"):
        importlib.import_module(f"azure.{name}")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        task = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            with os.fdopen(write, "w", encoding="utf-8") as pipe:
                json.dump(perform(task), pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        answers.write((answer or '{"error": {"type": "Crash", "message": "", "attributes": {}}}') + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
