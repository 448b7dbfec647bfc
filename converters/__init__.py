"""Conversion between PyTorch checkpoints and our model folders, in both directions."""
