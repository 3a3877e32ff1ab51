"""The gate before the cloud: this very dataset and program, proven on recordings and rendered line by line."""
