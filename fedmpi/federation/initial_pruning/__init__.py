"""Initial pruning: PruneFL before the federated rounds, at one client or at the server (Jiang et al., IEEE TNNLS 2022).

``schedule`` says what the mask is and when to stop, ``training`` makes the local rounds, ``local_rounds`` runs and
charges them on the server, and ``phase`` is what every rank does meanwhile.
"""
