"""Passwords and tokens of the environment, ~/.netrc and URLs reach no file, no output, no error and no upload."""

import base64
import gzip
import hashlib
import io
import tempfile
import zipfile
from importlib.util import find_spec
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from support.hub import REPOSITORY, Hub, connect
from support.series import long_frame
from support.servers import POSTGRES, S3Handler, postgres, serve

from pipeline import fine_tune, load
from pipeline.core.errors import UserError

pytest.importorskip("s3fs")
VARIABLES = (
    "HF_TOKEN AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN DATABASE_PASSWORD QUERY_TOKEN "
    "MLFLOW_TRACKING_PASSWORD MLFLOW_TRACKING_TOKEN WANDB_API_KEY COMET_API_KEY"
).split()
SECRETS = {name: hashlib.sha256(name.encode()).hexdigest()[:24] for name in (*VARIABLES, "netrc", "url", "signature")}
LOGIN = base64.b64encode(f"me:{SECRETS['netrc']}".encode()).decode()
WITH_PASSWORD = f"me:{SECRETS['url']}@127.0.0.1:9"
SIGNED = f"https://127.0.0.1:9/sales.csv?token={SECRETS['signature']}"
TRAINING = {
    "training.max_steps": 2,
    "training.context_length": 32,
    "training.prediction_length": 8,
    "training.validation_windows": 4,
    "training.keep_checkpoints": True,
    "training.trainer.report_to": "[tensorboard, mlflow]",
    "training.trainer.eval_steps": 1,
}


def contents(name, content):
    """Yield the bytes of a file, and of what is packed in it."""
    yield content
    if zipfile.is_zipfile(io.BytesIO(content)):  # workbooks, and the pickles of torch
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from contents(member, archive.read(member))
    elif content[:2] == b"\x1f\x8b":
        yield from contents(name, gzip.decompress(content))
    elif content[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(content))
        yield f"{table.schema.metadata} {table.to_pylist()}".encode()


def leaks(name, content):
    """Return the names of the secrets in the bytes of a file."""
    needles = {name: secret.encode() for name, secret in SECRETS.items()} | {"login": LOGIN.encode()}
    found = {secret for part in contents(name, content) for secret, needle in needles.items() if needle in part}
    return {f"{name}: {secret}" for secret in found}


class World:
    """A folder to run in, servers that want secrets, and what the runs print."""

    def __init__(self, folders, run_script, address):
        self.folders, self.run_script, self.printed = folders, run_script, ""
        self.address, self.query = address, f"token={SECRETS['signature']}"
        self.signed = f"{address}/sales.csv?{self.query}"

    def run(self, script, code, *arguments, **keys):
        """Run a script, which must exit with a code."""
        options = [part for key, value in keys.items() for part in (f"--{key}", value)]
        found, out, err = self.run_script(script, *arguments, *options)
        self.printed += f"{script} {arguments}\n{out}{err}"
        assert found == code, err

    def check(self, least):
        """Assert that nothing printed and no file has a secret; there are some files."""
        files = [path for folder in self.folders for path in folder.rglob("*") if path.is_file()]
        assert len(files) >= least
        found = set().union(*(leaks(str(path), path.read_bytes()) for path in files))
        lines = [line for line in self.printed.splitlines() if leaks("printed", line.encode())]
        assert not found and not lines


@pytest.fixture
def world(tmp_path, tmp_path_factory, monkeypatch, run_script):
    import s3fs

    served = tmp_path_factory.mktemp("served")
    (served / "bucket").mkdir()
    for file in ("sales.csv", "bucket/sales.csv"):
        long_frame(4, 80).to_csv(served / file, index=False)
    long_frame(4, 80).groupby("item_id", as_index=False).agg(list).to_parquet(served / "sales.parquet")
    task = {"dataset_path": str(served / "sales.parquet"), "horizon": 8, "id_column": "item_id"}
    (served / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [task]}))
    for name in VARIABLES:
        monkeypatch.setenv(name, SECRETS[name])
    temporary = tmp_path_factory.mktemp("t")  # fev makes a socket in it, whose path must be short
    settings = {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NETRC": str(served / "netrc"),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "MLFLOW_TRACKING_USERNAME": "me",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (served / "netrc").write_text(f"machine 127.0.0.1 login me password {SECRETS['netrc']}\n")
    (served / "netrc").chmod(0o600)
    s3fs.S3FileSystem.clear_instance_cache()
    with serve(served) as web, serve(served, S3Handler) as s3:
        web.faults |= {"login": f"Basic {LOGIN}", "token": SECRETS["signature"]}
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.address)
        yield World((tmp_path, temporary), run_script, web.address)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    hub = Hub(tiny["bolt"], token=SECRETS["HF_TOKEN"])
    connect(monkeypatch, hub, tmp_path / "hub")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def database():
    if not POSTGRES:
        yield None
        return
    with postgres(SECRETS["DATABASE_PASSWORD"]) as folder:
        yield f"postgresql://tester:${{DATABASE_PASSWORD}}@/postgres?host={folder}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow warns about its own modules
def test_no_command_writes_or_prints_a_secret(world, hub, database):
    query = "SELECT 'q' AS item_id, timestamp '2024-01-01' + n * interval '1 day' AS timestamp, sin(n) AS target "
    source = {"query": f"{query} FROM generate_series(1, 80) AS n", "url": database}
    sources = [world.signed, "s3://bucket/sales.csv", *([source] if database else [])]
    base = {"base_model.model_name": REPOSITORY}
    world.run("base_model", 0, **base)
    world.run("generate_data", 0, **{"training.dummy_data.n_samples": 4})
    mixup = {"synthetic.generator": "tsmixup", "synthetic.n_series": 4, "synthetic.mixup.min_length": 8}
    world.run("generate_data", 0, **mixup, **{"data.train": world.signed})
    training = {**base, **TRAINING, "data.train": yaml.safe_dump(sources, default_flow_style=True)}
    world.run("train", 0, "--dry_run", **training)
    world.run("train", 0, **training, **{"training.push_to_hub": REPOSITORY})
    for suffix in ("parquet", "csv", "jsonl", "xlsx"):
        keys = {"inference.data_path": world.signed, "inference.output_path": f"out/forecasts.{suffix}"}
        world.run("forecast", 0, **keys)
    world.run("forecast", 0, "--flag", **{**keys, "inference.output_path": "out/flags.csv"})
    world.run("export", 0)
    world.run("evaluate", 0, **{"evaluation.data_path": world.signed, "evaluation.baselines": "[]"})
    if find_spec("fev"):
        world.run("evaluate", 0, **{"evaluation.fev_tasks": f"{world.address}/tasks.yaml?{world.query}"})
    assert hub.uploaded.keys() >= {"training_info.json", "README.md"}
    assert not set().union(*(leaks(name, content) for name, content in hub.uploaded.items()))
    world.check(least=60)
    world.run("train", 0, "--print_config", **{"data.train": f"{world.address}/sales.csv?token=${{QUERY_TOKEN}}"})
    world.run("clear_cache", 0)
    world.check(least=40)


REFUSED = {
    "train": [
        {"data.train": f"https://{WITH_PASSWORD}/sales.csv"},
        {"data.train": f"postgresql://{WITH_PASSWORD}/sales"},
        {"data.train": f"{{query: SELECT 1, url: 'postgresql://{WITH_PASSWORD}/sales'}}"},
        {"data.train": "{query: SELECT 1, url: 'postgresql://me:${DATABASE_PASSWORD}@127.0.0.1:9/sales'}"},
        {"data.train": SIGNED},
        {"data.train": "https://127.0.0.1:9/sales.csv?token=${QUERY_TOKEN}"},
        {"data.train": f"[{{path: '{SIGNED}', weight: 0}}]"},
        {"data.train": f"[{{paht: '{SIGNED}'}}]"},
        {"training.epochs": f"https://{WITH_PASSWORD}/sales.csv"},
        {"training.max_steps": SIGNED},
        {"training.output_path": f"s3://{WITH_PASSWORD}/trained"},
        {"training.push_to_hub": f"https://{WITH_PASSWORD}/trained"},
        {"training.trainer.hub_token": SECRETS["HF_TOKEN"]},
        {"base_model.model_name": f"https://{WITH_PASSWORD}/model"},
        {"base_model.model_name": f"s3://{WITH_PASSWORD}/model"},
    ],
    "forecast": [
        {"inference.model_path": f"https://{WITH_PASSWORD}/model"},
        {"inference.data_path": f"https://{WITH_PASSWORD}/sales.csv", "inference.model_path": "builtin:bolt-synth"},
        {"inference.output_path": f"https://{WITH_PASSWORD}/out.csv", "inference.model_path": "builtin:bolt-synth"},
        {"inference.future_path": f"https://{WITH_PASSWORD}/sales.csv"},
    ],
    "evaluate": [
        {"evaluation.models": f"https://{WITH_PASSWORD}/model"},
        {"evaluation.fev_tasks": f"https://{WITH_PASSWORD}/tasks.yaml"},
        {"evaluation.fev_tasks": SIGNED},
        {"evaluation.data_path": f"[{{path: '{SIGNED}', prediction_length: 0}}]"},
    ],
}


@pytest.mark.parametrize("script", REFUSED)
def test_no_error_shows_a_secret(script, world):
    for keys in REFUSED[script]:
        world.run(script, 2, **keys)
    world.check(least=0)


@pytest.mark.filterwarnings("ignore")
def test_a_tracking_server_that_cannot_be_reached_is_named_without_its_password(world, monkeypatch, tiny):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{WITH_PASSWORD}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    world.run("train", 2, **{"data.train": world.signed, "base_model.output_path": tiny["bolt"], **TRAINING})
    world.check(least=1)


def test_no_function_writes_or_shows_a_secret(world, tiny, capsys):
    fast: dict[str, Any] = {"max_steps": 2, "context_length": 32, "validation_windows": 4}
    model = fine_tune(world.signed, 8, base=str(tiny["bolt"]), output_path="trained", **fast)
    model.predict_df(long_frame(4, 80))
    with pytest.raises(UserError) as training:
        fine_tune(f"https://{WITH_PASSWORD}/a.csv", 8)
    with pytest.raises(UserError) as loading:
        load(f"https://{WITH_PASSWORD}/model")
    world.printed = f"{training.value}\n{loading.value}\n"
    printed = capsys.readouterr()
    world.printed += printed.out + printed.err
    world.check(least=8)


@pytest.mark.parametrize("suffix", ["bytes", "gz", "zip", "parquet"])
def test_a_secret_in_a_file_is_found(suffix):
    secret, target = SECRETS["HF_TOKEN"], io.BytesIO()
    if suffix == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("member", secret)
    elif suffix == "parquet":
        long_frame(1, 50).assign(item_id=secret).to_parquet(target)
    else:
        target.write(gzip.compress(secret.encode()) if suffix == "gz" else secret.encode())
    assert leaks("file", target.getvalue()) == {"file: HF_TOKEN"} and not leaks("file", b"nothing")
