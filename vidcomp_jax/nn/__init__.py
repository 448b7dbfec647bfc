"""Building blocks of the networks: warps and heatmaps, layers, the hourglass and 3D convolutions."""
