"""Names of the package, imported when they are asked for."""

import importlib
import pkgutil

import critics


def test_a_name_stays_what_it_is_whatever_was_imported_before():
    """A module of the name of a function would take its place as soon as anybody imported it."""
    modules = [module.name for module in pkgutil.iter_modules(critics.__path__)]
    for module in modules:
        importlib.import_module(f"critics.{module}")
    for name in critics.__all__:
        assert name not in modules
        assert getattr(critics, name).__class__.__name__ != "module"
