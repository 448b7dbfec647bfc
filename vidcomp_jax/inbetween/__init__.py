"""In-betweening by 3D convolutions, which generates clips from their two end frames without keypoints.

The method is that of Li, Roblek and Tagliasacchi, "From Here to There: Video Inbetweening Using Direct 3D
Convolutions", 2019. `networks`, `discriminators` and `losses` define what `experiments.train_inbetween` trains;
`generation` runs a trained generator, and `tfhub` runs the modules that the authors published.
"""
