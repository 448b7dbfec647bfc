"""Helpers shared by several test modules: golden values, checkpoints, a small training run, saved models."""
