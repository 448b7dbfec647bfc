"""Reads and writes videos and images, draws panels of results, and writes the HTML player."""
