"""A shelf: one folder, one plugin a file, the file name is the plugin's name."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import entry_points
from types import ModuleType

from bot.kit.errors import PermanentError


class Shelf:
    """The plugins of one kind, by name. Another package joins by an entry point group of the shelf's name."""

    def __init__(self, package: str, *, must_have: tuple[str, ...]) -> None:
        self.package = package
        self.must_have = must_have
        self.modules: dict[str, ModuleType] = {}
        self._found: dict[str, Callable[[], ModuleType]] = {}

    def load(self) -> "Shelf":
        """Import every plugin on the shelf, and those installed from elsewhere."""
        self.find()
        for name in self:
            self[name]
        return self

    def find(self) -> "Shelf":
        """Know every plugin, and import those that are asked for: where one of many is used, the others cost memory."""
        home = importlib.import_module(self.package)
        for found in pkgutil.iter_modules(home.__path__):
            self._add(found.name.rstrip("_"), partial(importlib.import_module, f"{self.package}.{found.name}"))
        for point in entry_points(group=self.package):
            self._add(point.name, point.load)
        return self

    def _add(self, name: str, get: Callable[[], ModuleType]) -> None:
        if name in self:
            raise PermanentError(f"two plugins are called {name!r} in {self.package}")
        self._found[name] = get

    def _checked(self, module: ModuleType) -> ModuleType:
        missing = [part for part in self.must_have if not hasattr(module, part)]
        if missing:
            raise PermanentError(f"{module.__name__} lacks {', '.join(missing)}")
        return module

    def __getitem__(self, name: str) -> ModuleType:
        if name not in self:
            known = ", ".join(self) or "none"
            raise PermanentError(f"no {name!r} in {self.package}; there is: {known}")
        if name not in self.modules:
            self.modules[name] = self._checked(self._found[name]())
        return self.modules[name]

    def __contains__(self, name: object) -> bool:
        return name in self.modules or name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.modules, *self._found}))
