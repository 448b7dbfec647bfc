"""Training of any module on all devices: the step, the loop and the folder of a run; it knows no network."""
