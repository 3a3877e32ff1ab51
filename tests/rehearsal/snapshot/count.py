"""The first step of the tests' pipeline: repeats the lines of a file, or behaves as it is told."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path)
parser.add_argument("--times", type=int)
parser.add_argument("--behave", default="well")
parser.add_argument("--rows", type=Path)
options = parser.parse_args()
print(f"behaves {options.behave}", flush=True)

if options.behave == "slowly":
    time.sleep(2)
if options.behave == "exit 3":
    print("the reason is in the log", file=sys.stderr)
    sys.exit(3)
if options.behave == "wait":
    signal.signal(signal.SIGTERM, lambda *_: (print("asked to end", flush=True), sys.exit(1)))
    time.sleep(120)
if options.behave == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf now", flush=True)
    time.sleep(120)
if options.behave == "checkpoint" and not options.rows.exists():
    options.rows.write_text("checkpoint\n")
    Path("scratch").touch()
    print("checkpoint written", flush=True)
    time.sleep(120)
if options.behave == "import helper":
    import helper  # noqa: F401
if options.behave == "tell":
    told = {
        "environment": dict(os.environ),
        "files": sorted(path.name for path in Path.cwd().iterdir()),
        "executable": sys.executable,
    }
    options.rows.write_text(json.dumps(told) + "\n")
elif options.behave == "ask for tokens":
    import base64

    from azure.ai.ml.identity import AzureMLOnBehalfOfCredential
    from azure.identity import ManagedIdentityCredential

    told = {}
    for name, credential in (
        ("managed", ManagedIdentityCredential()),
        ("assigned", ManagedIdentityCredential(client_id=os.environ["ASSIGNED"])),
        ("on behalf of", AzureMLOnBehalfOfCredential()),
        ("unknown", ManagedIdentityCredential(client_id="not-assigned")),
    ):
        try:
            token = credential.get_token("https://cognitiveservices.azure.com/.default").token
            part = token.split(".")[1]
            told[name] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except Exception as error:  # noqa: BLE001 - the test is told
            told[name] = f"{type(error).__name__}: {error}"
    options.rows.write_text(json.dumps(told) + "\n")
else:
    kept = options.rows.read_text() if options.rows.exists() else ""
    options.rows.write_text(kept + options.data.read_text() * options.times)
