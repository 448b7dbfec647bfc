"""Converts PyTorch checkpoints to model folders, and model folders to PyTorch checkpoints."""
