"""Programs that the Makefile runs, besides the commands and the tests."""
