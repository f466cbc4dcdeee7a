"""How fast the library is beside its baselines and its peers; ``python -m benchmarks`` measures and draws."""
