"""Learning on one client: flat models, local SGD, losses, evaluation, data sets and their partition."""
