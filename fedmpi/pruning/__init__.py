"""Which parameters exist: masks over the flat vector, and the methods that choose them."""

METHODS = ("none",)
"""The names that ``pruning.method`` may have."""
