"""The commands, one module each; `python -m experiments.NAME --help` lists the options of one."""
