"""Completes clips from their first and last frames: reads the inputs, generates the frames, and writes the results."""
