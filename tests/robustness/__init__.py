"""Whatever bytes, options, kills and numbers come in: a success or one line, and nothing lost."""
