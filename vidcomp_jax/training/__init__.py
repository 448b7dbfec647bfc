"""Training of any module on all devices: the step, the loop and the run folder. No network is known here."""
