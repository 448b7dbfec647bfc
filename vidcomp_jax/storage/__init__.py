"""Whatever is kept on disk: files that appear whole or not at all, configs as JSON, arrays and checkpoints."""
