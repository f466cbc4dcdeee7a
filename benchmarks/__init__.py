"""The speed of the library beside its baselines and its peers; ``python -m benchmarks`` measures and draws."""
