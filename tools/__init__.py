"""What `make` runs besides the commands and the tests."""
