"""Development programs, most of which the Makefile runs."""
