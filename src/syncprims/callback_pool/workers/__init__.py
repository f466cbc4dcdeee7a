"""The places where a pool's tasks run."""
