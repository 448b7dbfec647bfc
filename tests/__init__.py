"""The test suite: a file for each module or command, and what several of them share in `support`."""
