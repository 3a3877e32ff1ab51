"""The tokens that llama.cpp's server makes of the messages that a run sent: MODEL.gguf CALLS.jsonl FILE

It is the server under `mmlu-pipe serve`, with the template of the model's own file. Nothing is answered.
"""

import http.client
import json
import secrets
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import xllamacpp

ERRORS_ONLY = 1


def main() -> None:
    model, calls, target = sys.argv[1:]
    key = secrets.token_urlsafe(24)
    wanted = xllamacpp.CommonParams()
    wanted.model.path = model
    wanted.n_ctx, wanted.warmup, wanted.verbosity, wanted.cache_ram_mib = 512, False, ERRORS_ONLY, 0
    wanted.prefill_assistant, wanted.api_keys, wanted.ui = False, [key], False
    server = xllamacpp.Server(wanted)  # which listens as long as it is held
    address = urlsplit(server.listening_address).netloc

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(address)
        connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {key}"})
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return found

    with Path(calls).open(encoding="utf-8") as lines, Path(f"{target}.new").open("w", encoding="utf-8") as file:
        for call in map(json.loads, lines):
            if call["index"] == 0:
                prompt = post("/apply-template", {"messages": call["messages"]})["prompt"]
                found = post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
                file.write(json.dumps({"line_number": call["line_number"], "tokens": found}) + "\n")
    Path(f"{target}.new").replace(target)


if __name__ == "__main__":
    main()
