"""What the server's arrays in a checkpoint are called that others than their writers read, and what describes them."""

from __future__ import annotations

WEIGHTS = "weights"
"""The global weights and float buffers of the model, float32 (D + B,)."""
MODEL = "model"
"""In the values: ``input_shape`` and ``classes`` of the data, from which the model is built."""
DEVICES = "devices"
"""In the values: the digest of the fleet (``Fleet.digest``), which must not change under a run."""
