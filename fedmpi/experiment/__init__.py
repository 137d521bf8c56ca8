"""An experiment from its configuration to its trace; the one place where all parts meet.

``fedmpi.experiment.main.main`` runs one; it is not imported here because MPI starts with it.
"""
