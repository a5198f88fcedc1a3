"""Set every key of the configuration, and of the JSON files of checkpoints, to values at its boundaries.

python tools/attack/configurations.py 20                       this number of values of each key and file
python tools/attack/configurations.py 20 data training.lora    only the keys and files whose names begin so

A command with a value in a file or as an option makes its checks, and may refuse it in one line on stderr, with exit
code 2 and without a new or changed file. A checkpoint with a damaged JSON file forecasts, or is refused in one line.
"""

import importlib
import io
import json
import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from unittest import mock

import numpy as np
import yaml
from common import run
from inputs import JSON, TEXTS

from pipeline.config import Config, EvaluationSet, SqlSource, WeightedSource
from pipeline.core.errors import UserError, visible

NUMBERS: list[Any] = [0, -0.0, 1, 2, -1, 0.5, 1e3, 1e308, 5e-324, 10**6, 2**31 - 1, 2**31, 10**12, 2**63, 10**400]
NUMBERS += [float("nan"), float("inf"), -(10**12), True, "", "x", [1], {"a": 1}, None, "0x10", "1_000", "2020-01-01"]
WORDS: list[Any] = [*TEXTS, "null", "~", "\udc80", "{a: 1}", "[[[", "--x", "%s{0}", None, 5, True, [], {}]
FILES: list[Any] = "/dev/null /dev/full /dev/zero fifo socket folder loop dangling /proc/x link.csv base".split()
FILES += "series.csv series.csv/x base/x.csv .. . ~ fifo/x config.yaml loop/x /dev/null/x folder/x.csv".split()
FILES += "=cmd.csv http:// s3:// sqlite:// scratch: builtin:../x scratch:bolt-nano synthetic:bank a/b/c ://".split()
FILES += [None, 5, {}, "a\0b", "\u202enew.csv", "x\x1b[31m.csv", "x\n.csv", "x" * 256 + ".csv", "a/" * 3000 + "b.csv"]
LISTS: list[Any] = [[number] for number in NUMBERS] + [[word] for word in TEXTS] + [[], {}, None, 0.5, "", "x", "0.5"]
LISTS += [[0.5, 0.5], [0.9, 0.1], [1 - 2**-53], [k / 3001 for k in range(1, 3001)], ["x", "x"], [["x"]], [","]]
OPTIONS = "weight_decay max_grad_norm gradient_accumulation_steps eval_steps save_steps warmup_steps fp16 seed".split()
OPTIONS += "output_dir optim lr_scheduler_type report_to deepspeed logging_dir run_name x tf32 torch_compile".split()
TRAINER = [{name: value} for name in OPTIONS for value in [*NUMBERS, *TEXTS]]
SOURCES: list[Any] = [*FILES, {"path": "x"}, [{"path": 5}], [{}], [[]], [None], [5], ["x", "x"], {"query": "select 1"}]
SOURCES += [[{"path": "series.csv", "weight": weight}] for weight in NUMBERS]
SOURCES += [{"query": query, "url": url} for query in ("x", "x" * 100_000) for url in ("x", "sqlite:///x.db", "")]
SOURCES += [[{"path": "series.csv", key: value}] for key in ("name", "freq") for value in TEXTS]
SOURCES += [[{"path": "series.csv", key: value}] for key in ("seasonality", "prediction_length") for value in NUMBERS]
TRAIN = "--base_model.output_path=base --data.train=series.csv --training.context_length=32 --training.max_steps=2"
TRAIN += " --dry_run --training.prediction_length=8 --training.trainer.report_to=none --training.output_path=out"
FORECAST = "--inference.model_path=base --inference.data_path=series.csv --inference.prediction_length=2"
EVALUATE = "--evaluation.models=[base] --evaluation.data_path=series.csv --evaluation.prediction_length=2"
MIXUP = "--synthetic.mixup.min_length=20 --synthetic.mixup.max_length=50 --data.train=series.csv"
COMMANDS = {
    "train": TRAIN,
    "train lora": f"{TRAIN} --training.method=lora",
    "forecast": f"{FORECAST} --inference.output_path=predictions.csv",
    "forecast flag": f"{FORECAST} --flag --inference.output_path=flags.csv",
    "export": "--export.model_path=base --export.output_path=exported",
    "evaluate": f"{EVALUATE} --evaluation.report_path=reports",
    "generate": "--synthetic.generator=bank --synthetic.n_series=3 --synthetic.output_path=made --synthetic.length=600",
    "generate mixup": f"{MIXUP} --synthetic.generator=tsmixup --synthetic.n_series=3 --synthetic.output_path=made",
    "generate dummy": "--training.dummy_data.n_samples=5 --training.dummy_data.length=40",
    "base": "--base_model.model_name=scratch:bolt-nano --base_model.output_path=new",
}
"""Commands, with arguments that they accept."""
READERS = {
    "training.dummy_data": ["generate dummy"], "training.lora": ["train lora"], "training": ["train"],
    "synthetic.mixup": ["generate mixup"], "synthetic": ["generate"], "base_model": ["base"],
    "inference": ["forecast", "forecast flag"], "export": ["export"],
    "data": ["train", "forecast", "generate mixup"], "evaluation": ["evaluate"], "": ["train", "forecast", "evaluate"],
}  # fmt: skip
"""Commands that read a key, by its beginning."""


def keys(section: type, parent: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Yield every key of the configuration and its values."""
    for name, hint in get_type_hints(section).items():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from keys(hint, f"{parent}{name}.")
        else:
            yield parent + name, values_of(parent + name, hint)


def values_of(key: str, hint: Any) -> list[Any]:
    """Return the values of a key of a type."""
    members, kinds = [hint], set()
    while members:
        member = members.pop()
        kinds |= {member, get_origin(member)}
        members += get_args(member)
    if kinds & {WeightedSource, SqlSource, EvaluationSet}:
        return SOURCES
    if key.endswith(("_path", "_dir", "bank", "fev_tasks", "model_name")):
        return FILES
    if dict in kinds:
        return TRAINER
    return LISTS if list in kinds else NUMBERS if kinds & {int, float, bool} else WORDS


def make_world(folder: Path, base: Path) -> None:
    """Write the files that the values name into a new folder, and make it the current one."""
    folder.mkdir()
    os.chdir(folder)
    days = np.datetime64("2021-01-01") + np.arange(80)
    rows = [f"s{item},{day},{10 + day.day % 7}\n" for item in range(3) for day in days.tolist()]
    Path("series.csv").write_text("item_id,timestamp,target\n" + "".join(rows))
    Path("folder").mkdir()
    Path("folder/mine").write_text("mine")
    for link, target in (("loop", "loop"), ("dangling", "nowhere/at/all"), ("link.csv", "series.csv"), ("base", base)):
        Path(link).symlink_to(target)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")


def snapshot() -> dict[str, Any]:
    """Return all paths below the current folder but those of the cache, with their types and contents."""
    found = {}
    for path in Path().rglob("*"):
        if "cache" not in path.parts and path != Path("data"):  # the parent of the cache
            found[str(path)] = (path.lstat().st_mode, path.is_file() and path.read_bytes())
    return found


class Passed(Exception):
    """A command has made its checks."""


def set_key(base: Path, key: str, values: list[Any], rng: random.Random, folder: Path) -> None:
    """Run a command with a value of a key, and check what it prints and writes."""
    from pipeline.cli import main

    value = rng.choice(values)
    make_world(folder / "world", base)
    command = rng.choice(next(commands for begin, commands in READERS.items() if key.startswith(begin)))
    arguments = [argument for argument in COMMANDS[command].split() if not argument.startswith(f"--{key}=")]
    if key == "horizon":  # they take precedence
        arguments = [argument for argument in arguments if "prediction_length" not in argument]
    option = value if isinstance(value, str) else json.dumps(value).replace("NaN", ".nan").replace("Infinity", ".inf")
    if rng.random() < 0.5 or "\0" in option:
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        Path("config.yaml").write_text(yaml.dump(nested, allow_unicode=False))
        arguments += ["--config=config.yaml"]
    else:
        arguments += [f"--{key}={option}"]
    (folder / "arguments.txt").write_text("\n".join(arguments), errors="backslashreplace")
    before, out, err, code = snapshot(), io.StringIO(), io.StringIO(), 0
    checked = mock.patch("pipeline.evaluation.evaluate.score_models", side_effect=Passed)
    exported = mock.patch("pipeline.models.export._write_graph", side_effect=Passed)
    with checked, exported, mock.patch("sys.argv", [command, *arguments]), redirect_stdout(out), redirect_stderr(err):
        try:
            main(command.split()[0])
        except Passed:
            pass
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    after, error = snapshot(), err.getvalue()
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    text = (out.getvalue() + error).replace("\n", "")
    assert visible(text) == text, "control characters"
    if code:
        assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, f"exit {code}: {error}"
        assert not changed, f"it leaves {sorted(changed)[:5]}: {error}"
        raise UserError(error.rstrip("\n"))
    assert not changed & before.keys(), f"it changes {sorted(changed & before.keys())}"


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON document, of lists only the first."""
    yield path
    entries = list(enumerate(content[:1])) if isinstance(content, list) else []
    for name, value in content.items() if isinstance(content, dict) else entries:
        yield from places(value, (*path, name))


def with_value(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a JSON document with another value."""
    if not path:
        return value
    copy = content.copy()
    copy[path[0]] = with_value(content[path[0]], path[1:], value)
    return copy


def damage_json(checkpoint: Path, file: str, rng: random.Random, folder: Path) -> None:
    """Forecast with a checkpoint after a change to one of its JSON files."""
    shutil.copytree(checkpoint, folder / "model")
    path = folder / "model" / file
    text = path.read_text()
    content = json.loads(text)
    changed = with_value(content, rng.choice(list(places(content))), "\x01")
    texts = [json.dumps(changed).replace(json.dumps("\x01"), rng.choice(JSON))] * 10
    texts += [text.replace(f'"{rng.choice(list(content))}"', '"renamed"')] * 3
    texts += ["", text[: len(text) // 2], "\ufeff" + text, f"[{text}]", '{"a":' * 5000 + "}" * 5000, f"// x\n{text}"]
    path.write_text(rng.choice([*texts, text.rstrip()[:-1] + "," + text.lstrip()[1:]]))
    forecast(folder / "model")


def forecast(checkpoint: Path) -> None:
    """Read everything that the commands read of a checkpoint, and forecast with it."""
    from pipeline.evaluation.report.rows import training_rows
    from pipeline.forecasting.forecaster import Forecaster
    from pipeline.models.checkpoint import read_formats, remembered_keys
    from pipeline.models.find import find_base

    name = str(checkpoint)
    remembered_keys(name), read_formats(name), find_base(checkpoint), training_rows(name)
    history = np.sin(np.arange(50, dtype=np.float32) / 3)
    Forecaster.load(name).quantiles([history], 6, [0.1, 0.5, 0.9])


def make_checkpoints(folder: Path) -> dict[str, Path]:
    """Write a small checkpoint of each family, and return their folders."""
    from pipeline.models.base import BaseModel, convert, save
    from pipeline.models.create import Shape, random_model

    settings: dict[Any, dict[str, int]] = {"bolt": {}, "t5": {"n_tokens": 64}, "gpt2": {"n_tokens": 64}}
    for family, sizes in (settings | {"chronos-2": {"max_output_patches": 4}}).items():
        model = random_model(family, Shape(16, 64, 2, 2), seed=0, context_length=64, **sizes)
        save(convert(BaseModel(model, f"scratch:{family}-nano", seed=0)), folder / family)
    shutil.copytree(Path(sys.modules["pipeline"].__path__[0], "models", "builtin", "bolt-synth"), folder / "trained")
    return {path.name: path for path in folder.iterdir()}


def main() -> int:
    """Set the keys of the command line, and return the exit code."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    modules = "training.plan training.fit forecasting.forecaster evaluation.evaluate synthetic.generate"
    for module in modules.split():
        importlib.import_module(f"pipeline.{module}")  # each worker has the modules
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = make_checkpoints(Path(folder))
        base, attacks = checkpoints["bolt"], {}
        for key, values in keys(Config):
            attacks[key] = partial(set_key, base, key, values)
        for name, path in checkpoints.items():
            for file in sorted(path.glob("*.json")):
                attacks[f"{name} {file.name}"] = partial(damage_json, path, file.name)
        return run(__doc__, attacks, gigabytes=8)


if __name__ == "__main__":
    sys.exit(main())
