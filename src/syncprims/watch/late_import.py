"""Late imports: calling a function when the program imports a module; the module is not imported for that."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .._core.foreign import guarded

# The loader of such a module is wrapped until its code has run. Then the module and its spec get their own loader back.
# Only the finder is left of this, at the head of `sys.meta_path`.


class LateImport:
    """A finder that finds a few modules like the other finders, and calls a function when each has been imported."""

    def __init__(self) -> None:
        self._then: dict[str, Callable[[ModuleType], object]] = {}

    def after(self, name: str, then: Callable[[ModuleType], object]) -> None:
        """Call ``then(module)`` when the module has been imported; at once if it is imported already."""
        module = sys.modules.get(name)
        spec = guarded(None, getattr, module, "__spec__", None)
        if isinstance(module, ModuleType) and not guarded(False, getattr, spec, "_initializing", False):
            guarded(None, then, module)
            return
        self._then[name] = then
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def forget(self) -> None:
        """Call no function any more."""
        self._then.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of the modules."""
        if name not in self._then:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Wrapped(spec.loader, self._has_run)  # type: ignore[assignment]  # it behaves the same
                return spec
        return None

    def _has_run(self, module: ModuleType) -> None:
        then = self._then.pop(module.__name__, None)
        if then is not None:
            guarded(None, then, module)


class _Wrapped:
    def __init__(self, loader: Any, has_run: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._has_run = has_run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        create = getattr(self._loader, "create_module", None)
        made: ModuleType | None = None if create is None else create(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        for owner, name in ((module.__spec__, "loader"), (module, "__loader__")):
            if getattr(owner, name, None) is self:
                setattr(owner, name, self._loader)
        self._loader.exec_module(module)
        self._has_run(module)
