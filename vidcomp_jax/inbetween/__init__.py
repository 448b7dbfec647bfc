"""In-betweening by 3D convolutions: clips generated from their two end frames, without keypoints.

Li, Roblek and Tagliasacchi, "From Here to There: Video Inbetweening Using Direct 3D Convolutions", 2019. `networks`,
`discriminators` and `losses` are trained by `experiments.train_inbetween`; `generation` fills clips with the result,
and `tfhub` with the modules that the authors published.
"""
