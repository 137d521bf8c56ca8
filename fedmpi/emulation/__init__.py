"""Emulated devices and links: what a round costs in emulated seconds, and how a clock passes them."""
