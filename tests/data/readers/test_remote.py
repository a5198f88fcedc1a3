import base64
import logging
import re
import sys
from pathlib import Path

import pytest
from support.hub import COMMIT, REPOSITORY, Hub, connect
from support.servers import GCSHandler, S3Handler, serve
from support.source_files import refused

from pipeline.core.urls import has_password, redact
from pipeline.data.readers.remote import list_files

fsspec = pytest.importorskip("fsspec")
ROWS = b"item_id,timestamp,target\nA,2024-01-01,1\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "served").mkdir()
    return tmp_path / "served"


@pytest.fixture
def server(folder):
    with serve(folder) as server:
        yield server


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that is s3://bucket, and its server."""
    s3fs = pytest.importorskip("s3fs")
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    names = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with serve(tmp_path / "s3", S3Handler) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        s3fs.S3FileSystem.clear_instance_cache()
        yield tmp_path / "s3" / "bucket", server
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def google_bucket(tmp_path, monkeypatch):
    """A folder that is gs://bucket."""
    gcsfs = pytest.importorskip("gcsfs")
    (tmp_path / "gcs" / "bucket").mkdir(parents=True)
    with serve(tmp_path / "gcs", GCSHandler) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield tmp_path / "gcs" / "bucket"
        gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def memory():
    """An empty file system in memory."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    return filesystem


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(ROWS + name.encode())


def stamps(source):
    """The identity of a source whose server says when a file changed."""
    lines = list_files(source).identity()
    assert lines is not None
    return lines


def names(source):
    return list(list_files(source).files)


def read_all(source, folder):
    """Content of each downloaded file by its name; each is removed, as a reader does."""
    contents = {}
    for path in list_files(source).download(folder):
        assert [file for file in folder.rglob("*") if file.is_file()] == [path]  # one at a time
        contents[str(path.relative_to(folder))] = path.read_bytes()
        path.unlink()
    return contents


TREES = {
    "files": (["b.csv", "a.parquet", "c.csv.gz", "readme.md"], ["a.parquet", "b.csv", "c.csv.gz"]),
    "hidden": (["a.csv", ".b.csv", "_SUCCESS", "_temporary/c.csv", "~$d.xlsx"], ["a.csv"]),
    "subfolders": (["a.csv", "sub/b.csv"], ["a.csv"]),
    "gluonts": (["metadata/metadata.json", "train/data.json", "test/data.json"], ["data.json"]),
    "datasets": (["dataset_info.json", "state.json", "data-0.arrow"], ["data-0.arrow"]),
    "datasets dict": (
        ["dataset_dict.json", "train/data-0.arrow", "train/state.json", "test/x.arrow"],
        ["data-0.arrow"],
    ),
    "partitions": (
        ["year=2023/b.parquet", "year=2024/shop=1/a.parquet", "year=2024/_x.parquet"],
        ["year=2023/b.parquet", "year=2024/shop=1/a.parquet"],
    ),
}


@pytest.mark.parametrize("files, expected", TREES.values(), ids=TREES)
@pytest.mark.parametrize("protocol", ["http", "s3", "gs", "memory", "file"])
def test_a_folder_has_the_files_that_a_local_one_has(protocol, files, expected, request, tmp_path):
    if protocol == "memory":
        filesystem = request.getfixturevalue("memory")
        for name in files:
            filesystem.pipe(f"/data/x/{name}", ROWS + name.encode())
        source = "memory://data/x"
    elif protocol == "s3":
        write(request.getfixturevalue("bucket")[0] / "x", *files)
        source = "s3://bucket/x"
    elif protocol == "gs":
        write(request.getfixturevalue("google_bucket") / "x", *files)
        source = "gs://bucket/x"
    else:
        write(request.getfixturevalue("folder") / "x", *files)
        address = request.getfixturevalue("server").address
        source = f"{address}/x/" if protocol == "http" else f"file://{tmp_path}/served/x"
    assert names(source) == expected
    whole = {name: next(file for file in files if file.endswith(name)) for name in expected}
    if "train/" in str(files):
        whole = {name: f"train/{name}" for name in expected}
    assert read_all(source, tmp_path / "downloads") == {name: ROWS + file.encode() for name, file in whole.items()}
    assert len(stamps(source)) == len(expected)


def test_files_of_a_folder_that_are_not_read_are_named(memory):
    for name in ("a.csv", "_b.csv", "c.dat", "_SUCCESS", ".d.csv", "metadata.json", "sub/e.csv"):
        memory.pipe(f"/data/x/{name}", ROWS)
    assert list_files("memory://data/x").left_out == ["_b.csv", "c.dat"]
    assert not list_files("memory://data/x/*.csv").left_out


def test_a_single_file_has_its_name_and_size(server, folder, memory, bucket):
    write(folder, "sales 1.csv")
    write(bucket[0], "b.csv")
    memory.pipe("/a/c.csv", ROWS)
    size = len(ROWS) + len("b.csv")
    for source, name, expected in (
        (f"{server.address}/sales%201.csv", "sales 1.csv", len(ROWS) + len("sales 1.csv")),
        ("s3://bucket/b.csv", "b.csv", size),
        ("memory://a/c.csv", "c.csv", len(ROWS)),
    ):
        listing = list_files(source)
        assert (list(listing.files), listing.sizes()) == ([name], [expected])


def test_a_missing_file_of_google_cloud_storage_is_refused(google_bucket):
    with refused("gs://bucket/none.csv", "no such file"):
        list_files("gs://bucket/none.csv")


@pytest.mark.parametrize("pattern, expected", [("*.csv", ["a1.csv", "a2.csv"]), ("a[13].*", ["a1.csv"])])
def test_a_glob_finds_files(pattern, expected, server, folder, bucket):
    for root in (folder, bucket[0]):
        write(root / "x", "a1.csv", "a2.csv", "b.parquet", "_a.csv", "sub/a3.csv")
    assert names(f"{server.address}/x/{pattern}") == names(f"s3://bucket/x/{pattern}") == expected
    assert names("s3://bucket/x/a?.csv") == ["a1.csv", "a2.csv"]
    assert names("s3://bucket/x/**/*3.csv") == ["sub/a3.csv"]


def test_the_frequency_of_a_remote_gluonts_folder_is_read(server, folder):
    write(folder, "plain/a.csv", "x/train/data.json")
    (folder / "x" / "metadata").mkdir()
    (folder / "x" / "metadata" / "metadata.json").write_text('{"freq": "15min"}')
    found = [list_files(f"{server.address}/{path}").gluonts_freq() for path in ("x/", "plain/", "plain/a.csv")]
    assert found == ["15min", None, None]
    (folder / "x" / "metadata" / "metadata.json").write_text('["15min"]')
    assert list_files(f"{server.address}/x/").gluonts_freq() is None


def test_files_of_a_data_set_on_the_hub_are_read(tmp_path, monkeypatch, folder):
    write(folder, "train.csv", "README.md")
    hub = Hub(folder, kind="datasets")
    connect(monkeypatch, hub, tmp_path / "hub")
    try:
        for source in (f"hf://datasets/{REPOSITORY}", f"hf://datasets/{REPOSITORY}@{COMMIT}/train.csv"):
            assert read_all(source, tmp_path / "downloads") == {"train.csv": ROWS + b"train.csv"}
            assert re.search("[0-9a-f]{40}", stamps(source)[0])
        with refused("hf://datasets/someone/else", "no such file", "HF_TOKEN"):
            list_files("hf://datasets/someone/else/x.csv")
    finally:
        hub.close()


@pytest.mark.parametrize("kind, name", [("text/csv; charset=utf-8", "export.csv"), ("text/html", "export")])
def test_a_web_address_without_a_suffix_takes_that_of_its_type(kind, name, server, folder):
    write(folder, "export")
    server.faults |= {"without": ["Content-type"], "headers": {"content-type": kind}}
    assert names(f"{server.address}/export?format=x") == [name]


def test_the_identity_changes_with_the_content_only(server, folder, bucket, memory):
    write(folder, "a.csv")
    write(bucket[0], "a.csv")
    memory.pipe("/a.csv", ROWS)
    server.faults["headers"] = {"ETag": '"1"'}
    sources = [f"{server.address}/a.csv", "s3://bucket", "memory://a.csv"]
    before = [stamps(source) for source in sources]
    assert [stamps(source) for source in sources] == before
    assert list_files(f"{sources[0]}?token=secret&expires=1").identity() == before[0]
    server.faults["headers"] = {"ETag": '"2"'}
    (bucket[0] / "a.csv").write_bytes(ROWS + b"b.csv")  # of the same size
    memory.pipe("/a.csv", ROWS)
    assert not {line for source in sources for line in stamps(source)} & {line for lines in before for line in lines}


def test_a_server_without_checksum_and_time_gives_no_identity(server, folder):
    write(folder, "a.csv")
    server.faults["without"] = ["Last-Modified"]
    assert list_files(f"{server.address}/a.csv").identity() is None


def test_signed_addresses_are_read_without_head_requests_and_sent_unchanged(server, folder, tmp_path):
    write(folder, "a.csv")
    server.faults |= {"token": "a%2Fb%2B", "no_head": True}
    source = f"{server.address}/a.csv?token=a%2Fb%2B"
    assert read_all(source, tmp_path / "downloads") == {"a.csv": ROWS + b"a.csv"}


def test_a_variable_in_a_url_is_filled_from_the_environment(server, folder, tmp_path, monkeypatch):
    write(folder, "a.csv")
    server.faults["token"] = "a%2Fb"
    with refused("/a.csv", "TOKEN is not set"):
        list_files(f"{server.address}/a.csv?token=${{TOKEN}}")
    monkeypatch.setenv("TOKEN", "a%2Fb")
    assert names(f"{server.address}/a.csv?token=${{TOKEN}}") == ["a.csv"]


def test_credentials_of_a_web_server_are_read_from_netrc(server, folder, tmp_path, monkeypatch):
    write(folder, "a.csv")
    server.faults["login"] = f"Basic {base64.b64encode(b'me:right').decode()}"
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with refused("a.csv", "access is denied", "netrc"):
        list_files(f"{server.address}/a.csv")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password right\n")
    (tmp_path / "netrc").chmod(0o600)
    assert read_all(f"{server.address}/a.csv", tmp_path / "downloads") == {"a.csv": ROWS + b"a.csv"}


def test_credentials_of_s3_are_those_of_the_environment(bucket, monkeypatch, tmp_path):
    write(bucket[0], "a.csv")
    assert names("s3://bucket/a.csv") == ["a.csv"] and "Credential=someone/" in bucket[1].requests[-1]
    bucket[1].faults["status"] = 403
    with refused("^s3://bucket/a.csv: ", "access is denied", "AWS_ACCESS_KEY_ID"):
        list_files("s3://bucket/a.csv")


def test_a_public_bucket_needs_no_credentials(bucket, monkeypatch, tmp_path):
    write(bucket[0], "a.csv")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with refused("^s3://bucket/a.csv: ", "FSSPEC_S3_ANON"):
        list_files("s3://bucket/a.csv")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})  # as FSSPEC_S3_ANON=true does at import
    assert names("s3://bucket/a.csv") == ["a.csv"] and bucket[1].requests[-1] is None


@pytest.mark.parametrize(
    "source",
    [
        "https://me:pa55word@host/a.csv",
        "https://me:p@55?word@host/a.csv",
        "https://tokenpa55word@host/a.csv",
        "s3://me:pa55word/x@bucket/a.csv",
        "sftp://me:pa55word@host/a.csv?x=1",
    ],
)
def test_a_password_in_a_url_is_refused(source):
    with refused("/a.csv", "password or token", "set") as error:
        list_files(source)
    assert "55" not in str(error.value) and "word@" not in str(error.value)


@pytest.mark.parametrize(
    "source, shown",
    [
        ("https://h:8080/a@b.csv?X-Sig=1#x", "https://h:8080/a@b.csv"),
        ("s3://bucket/a?.csv", "s3://bucket/a?.csv"),
        ("s3://bucket/a.csv?versionId=1", "s3://bucket/a.csv"),
        ("hf://datasets/o/n@main/a.csv", "hf://datasets/o/n@main/a.csv"),
        ("abfs://box@account/a.csv", "abfs://box@account/a.csv"),
        ("folder/a.csv", "folder/a.csv"),
    ],
)
def test_a_url_is_shown_without_its_query(source, shown):
    assert redact(source) == shown and not has_password(source)


@pytest.mark.parametrize(
    "faults, fact",
    [
        ({"status": 404}, "no such file"),
        ({"status": 403}, "access is denied.*netrc"),
        ({"status": 500}, "500"),
        ({"breaks_off": True}, "try again|network"),
    ],
)
def test_an_error_of_a_server_is_one_line_without_the_query(faults, fact, server, folder, tmp_path, caplog):
    write(folder, "a.csv")
    server.faults |= faults
    with caplog.at_level(logging.INFO), refused(f"{server.address}/a.csv: ", fact) as error:
        read_all(f"{server.address}/a.csv?token=secret", tmp_path / "downloads")
    assert "secret" not in str(error.value) + caplog.text and "\n" not in str(error.value)
    assert error.value.__cause__ is None and error.value.__suppress_context__
    assert not [file for file in (tmp_path / "downloads").rglob("*") if file.is_file()]


def test_a_file_of_another_size_than_listed_is_refused(memory, tmp_path, monkeypatch):
    memory.pipe("/a.csv", ROWS)
    monkeypatch.setattr(type(memory), "get_file", lambda _, path, target: Path(target).write_bytes(b"half"))
    with refused("memory://a.csv", f"4 of {len(ROWS)} bytes of a.csv"):
        read_all("memory://a.csv", tmp_path / "downloads")


def test_a_server_that_does_not_answer_is_reported(server, folder, monkeypatch):
    monkeypatch.setattr("pipeline.data.readers.remote._READ_SECONDS", 0.05)
    address = server.address
    server.faults["status"] = property  # never reached
    server.shutdown()
    with refused(f"{address}/a.csv: ", "not answer in time"):
        list_files(f"{address}/a.csv?token=secret")
    server.server_close()
    with refused(f"{address}/a.csv: ", "network"):
        list_files(f"{address}/a.csv?token=secret")


def test_a_folder_without_data_files_is_refused(server, folder, bucket, memory):
    write(folder / "x", "readme.md", "sub/a.csv")
    memory.pipe("/x/_delta_log/0.json", ROWS)
    with refused("/x/: has no data file", r"\.csv"):
        list_files(f"{server.address}/x/")
    with refused("s3://bucket/none", "no such file"):
        list_files("s3://bucket/none")
    with refused(r"s3://bucket/\*.csv: no data file matches"):
        list_files("s3://bucket/*.csv")
    with refused("memory://x is a Delta table"):
        list_files("memory://x")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "gs", raising=False)  # of a test before this one
    with refused("^gs://bucket/a.csv: ", r"pip install 'chronos-native\[gcs\]'"):
        list_files("gs://bucket/a.csv")
    with refused("^foo://bucket/a.csv: ", "foo"):
        list_files("foo://bucket/a.csv")
