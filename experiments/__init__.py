"""Commands: each module is one job, `python -m experiments.NAME --help` explains it."""
