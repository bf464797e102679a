"""The one process that has Docker's socket: it starts and stops replicas of named services, and nothing else."""
