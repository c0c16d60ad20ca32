"""What the package costs, and what its peers do: see benchmarks/run."""
