"""`python -m mmlu_pipe` is the command `mmlu-pipe`."""

from mmlu_pipe.cli import main

if __name__ == "__main__":
    main()
