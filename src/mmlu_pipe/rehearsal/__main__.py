"""`python -m mmlu_pipe.rehearsal` installs Azurite into the user's cache."""

import sys

from mmlu_pipe.rehearsal.node import main

sys.exit(main())
