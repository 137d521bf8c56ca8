"""The rounds of federated learning: what the server plans, what clients do, what is exchanged."""
