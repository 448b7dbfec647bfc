"""What the networks are made of: warps and heatmaps, layers, the hourglass and 3D convolutions."""
