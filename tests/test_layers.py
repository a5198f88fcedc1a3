"""A module imports only from packages above its own in the list, so that data flows one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"
ORDER = [
    "core",
    "config",
    "arguments",
    "data",
    "synthetic",
    "models",
    "windows",
    "forecasting",
    "evaluation",
    "training",
    "base_model",
    "train_model",
    "load_model",
    "mlflow_model",
    "commands",
    "cli",
    "front_door",
]
HEAVY = {"torch", "transformers", "chronos", "accelerate", "peft", "datasets"}
LIGHT = ORDER[: ORDER.index("models")]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


def package_of(module):
    return module.split(".")[0]


def imports(path, nodes=None):
    for node in nodes or ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def own_imports(path):
    """Names of this package's modules that a module imports, without `pipeline.`."""
    return {name.removeprefix("pipeline.") for name in imports(path) if name.startswith("pipeline.")}


def test_every_package_has_a_place_in_the_order():
    assert {package_of(module) for module in MODULES} == set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_packages_before_its_own(module):
    for imported in own_imports(MODULES[module]):
        same = package_of(imported) == package_of(module) and "." in module
        assert same or ORDER.index(package_of(imported)) < ORDER.index(package_of(module)), imported


def test_no_module_of_a_package_imports_itself_by_way_of_others():
    beneath = {module: own_imports(path) & MODULES.keys() for module, path in MODULES.items()}
    left = dict(beneath)
    while free := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in free:
            del left[module]
    assert not left


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_are_imported_with_models_or_late(module):
    if package_of(module) in LIGHT:
        top = imports(MODULES[module], ast.parse(MODULES[module].read_text()).body)
        assert not HEAVY & {name.split(".")[0] for name in top}
