"""Motion models, which generate the keypoints between those of two frames."""
