"""Fetch a subject of MMLU, write it as JSONL, and register it in the workspace as `mmlu_<SUBJECT>_<SPLIT>`."""

import argparse
import sys

import mmlu_pipe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace_config", default="config.json", help="AzureML config.json")
    parser.add_argument("--mmlu_dataset", required=True, metavar="SUBJECT", help="subject of MMLU, or all")
    parser.add_argument("--split", default="validation", choices=("test", "validation", "dev"))
    asked = parser.parse_args()
    try:
        found = mmlu_pipe.create_dataset(asked.mmlu_dataset, split=asked.split, workspace_config=asked.workspace_config)
    except mmlu_pipe.MmluPipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{found.path}: {found.lines} lines, registered as {found.asset}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
