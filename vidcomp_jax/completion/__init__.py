"""Clips between a first and a last frame: what to complete, the call that completes it, the files it gives."""
