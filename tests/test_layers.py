"""A module imports only from lower layers, so that data flows one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"
LAYERS = [
    {"errors"},
    {"builtin", "files", "series"},
    {"config", "frequency", "draws"},
    {"arrow_store", "command_line", "covariates", "formats", "metrics", "checkpoint"},
    {"synthetic", "tabular"},
    {"splits"},
    {"windows"},
    {"data_source"},
    {"training_sources"},
    {"evaluation", "future", "tokens"},
    {"baselines", "ranking", "bolt_attention"},
    {
        "base_model",
        "between",
        "run_folder",
        "training_data",
        "forecasting",
        "report",
        "recipes",
        "cpu",
        "hub",
        "memory",
        "tuning",
    },
    {
        "guard",
        "callbacks",
        "training_arguments",
        "plan",
        "predictions",
        "starting_point",
        "training_sets",
    },
    {"candidates", "fitting"},
    {"train_model", "load_model", "score_models", "fev_tasks", "make_series", "publish"},
]
EDGE = "command"
HEAVY = {"torch", "transformers", "chronos", "accelerate", "peft", "datasets"}


def level(module):
    return next(height for height, modules in enumerate(LAYERS) if module in modules)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node


def modules():
    files = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    return sorted((path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path) for path in files)


@pytest.mark.parametrize("module, path", modules(), ids=lambda value: str(getattr(value, "stem", value)))
def test_a_module_imports_only_from_lower_layers(module, path):
    if module == EDGE:
        return
    for name, _ in imports(path):
        if name.startswith("pipeline."):
            imported = name.split(".")[1]
            same_package = imported == module and path.parent != PACKAGE
            assert same_package or level(imported) < level(module), f"{path.name} imports {name}"


@pytest.mark.parametrize("module, path", modules(), ids=lambda value: str(getattr(value, "stem", value)))
def test_heavy_libraries_are_imported_from_the_model_layer_up_or_late(module, path):
    if module == EDGE or level(module) > level("windows"):
        return
    top = ast.parse(path.read_text()).body
    names = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in top if isinstance(node, ast.ImportFrom)]
    assert not HEAVY & {name.split(".")[0] for name in names}


def test_every_module_has_a_layer():
    assert {module for module, _ in modules()} == set().union(*LAYERS) | {EDGE}
