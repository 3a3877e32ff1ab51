"""Where a pipeline runs: the Backend and Run protocols, and one module or package for each backend."""
