"""This host as a device: measured training steps, and the linear time model fitted to them."""

from fedmpi.calibration.fit import Fit, fit
from fedmpi.calibration.measure import Measured, measure, training_step

__all__ = ["Fit", "Measured", "fit", "measure", "training_step"]
