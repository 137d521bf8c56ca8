"""MPI: where clients live, what ranks say to each other, and how a launch is checked."""
