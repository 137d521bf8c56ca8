"""Numerical floor: random streams, exact top-k, sparse vectors, exact sums."""
