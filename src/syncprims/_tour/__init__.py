"""The scenes of the tour, one module each; `syncprims.__main__` plays them in order."""
