"""Ways to reach what is managed. Each library is imported by its own transport and by nothing else."""
