"""Motion models, which generate keypoint motion between two frames."""
