"""`python -m mmlu_pipe.rehearsal` installs Azurite and the packages of a job into the user's cache."""

import sys

from mmlu_pipe.bundled import bundled_requirements
from mmlu_pipe.errors import BackendError
from mmlu_pipe.rehearsal.interpreter import job_interpreter
from mmlu_pipe.rehearsal.node import install_azurite


def main() -> int:
    """Install what a rehearsal needs; returns the exit code."""
    try:
        sys.stdout.write(f"{install_azurite()}\n")
        sys.stdout.write(f"{job_interpreter(bundled_requirements())}\n")
    except (BackendError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
