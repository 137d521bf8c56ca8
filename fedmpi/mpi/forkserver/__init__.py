"""Ranks forked from one process of their node that has imported torch, instead of each importing it again.

Importing torch takes a rank a second and 150 MB of memory of its own; forked, ranks share both. The launcher's own
processes stay, as stubs: each passes what makes up a process (environment, open files, limits ...) to the fork server,
passes signals on to the forked process, and ends as that one ended. This must happen before MPI is initialized.
"""
