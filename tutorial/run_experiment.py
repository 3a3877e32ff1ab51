"""Submit a dataset and a guidance program to the workspace, as experiment `simple_mmlu_<SUBJECT>_<SPLIT>`.

The tutorial knows no recordings, so nothing is verified beforehand: `mmlu-pipe run --backend azureml --cassette …` is
the way that proves a run offline first.
"""

import argparse
import logging
import sys

import mmlu_pipe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace_config", default="config.json", help="AzureML config.json")
    parser.add_argument("--other_config", required=True, help="JSON file with the aoai_* keys and the two computes")
    parser.add_argument("--dataset_name", required=True, help="data asset, such as mmlu_astronomy_validation")
    parser.add_argument("--guidance_program", required=True, help="Python file of the guidance program")
    asked = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("mmlu_pipe").setLevel(logging.INFO)  # says what is registered, and where to look at the job
    try:
        run = mmlu_pipe.run(
            asked.dataset_name,
            asked.guidance_program,
            backend="azureml",
            workspace_config=asked.workspace_config,
            other_config=asked.other_config,
            gate=False,
        )
    except mmlu_pipe.MmluPipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"run folder: {run.run_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
