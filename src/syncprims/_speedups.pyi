# The optional compiled core, which `_core/speedups.py` puts under the Python classes.

REVISION: int

class Counter:
    _value: int
    _special: object
    _least: float
    _greatest: float
    @property
    def value(self) -> int: ...

def put(cls: type, name: str, text: str, /) -> None: ...
