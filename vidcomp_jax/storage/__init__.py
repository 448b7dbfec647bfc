"""Storage on disk: files and folders written atomically, configs as JSON, arrays and checkpoints."""
