"""PyTorch weights into Flax models, and back."""
