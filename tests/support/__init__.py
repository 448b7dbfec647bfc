"""What several test modules share: golden values, checkpoints, a small training run, saved models."""
