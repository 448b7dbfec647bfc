"""Training of any NNX module on all devices: the step, the loop and the run folder."""
