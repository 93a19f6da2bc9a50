"""A shelf: one folder, one plugin a file, the file name is the plugin's name."""

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from types import ModuleType

from bot.kit.errors import PermanentError


class Shelf:
    """The plugins of one kind, by name. Another package joins by an entry point group of the shelf's name."""

    def __init__(self, package: str, *, must_have: tuple[str, ...]) -> None:
        self.package = package
        self.must_have = must_have
        self.modules: dict[str, ModuleType] = {}

    def load(self) -> "Shelf":
        """Import every plugin on the shelf, and those installed from elsewhere."""
        home = importlib.import_module(self.package)
        for found in pkgutil.iter_modules(home.__path__):
            self._add(found.name.rstrip("_"), importlib.import_module(f"{self.package}.{found.name}"))
        for point in entry_points(group=self.package):
            self._add(point.name, point.load())
        return self

    def _add(self, name: str, module: ModuleType) -> None:
        missing = [part for part in self.must_have if not hasattr(module, part)]
        if missing:
            raise PermanentError(f"{module.__name__} lacks {', '.join(missing)}")
        if name in self.modules:
            raise PermanentError(f"two plugins are called {name!r} in {self.package}")
        self.modules[name] = module

    def __getitem__(self, name: str) -> ModuleType:
        try:
            return self.modules[name]
        except KeyError:
            known = ", ".join(sorted(self.modules)) or "none"
            raise PermanentError(f"no {name!r} in {self.package}; there is: {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.modules

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.modules))
