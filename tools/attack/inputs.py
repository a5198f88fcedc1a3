"""Open hostile sources of every kind, and print the ones that are neither read nor refused.

python tools/attack/inputs.py 100                     this number of sources of each kind
python tools/attack/inputs.py 100 json excel          only the kinds whose names begin so

A source is read to its last value, or refused in one line, within 20 s and 4 GB.
"""

import bz2
import datetime as dt
import gzip
import json
import os
import random
import socket
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from common import run
from mutations import SHEET, archive, ipc, workbook, written

Source = tuple[Any, dict[str, Any]]
"""A source, and the options with which it is opened."""
N = 8
DAYS = [f"2024-01-{day:02d}" for day in range(1, N + 1)]
STAMPS, NUMBERS = pa.array(np.array(DAYS, "M8[s]")), pa.array(np.arange(N) * 1.5)
HEADER, COLUMNS = "item_id,timestamp,target\n", ("item_id", "timestamp", "target")
CSV = HEADER + "".join(f"A,{day},{number}\n" for day, number in zip(DAYS, NUMBERS))
LONG: dict[str, Any] = {"item_id": ["A"] * N, "timestamp": STAMPS, "target": NUMBERS}
LISTS: dict[str, Any] = {"item_id": list("abcdefgh"), "target": [[1.0, 2.0]] * N, "start": STAMPS, "freq": ["D"] * N}
STORE = pa.schema({"item_id": pa.string(), "start": pa.timestamp("s"), "target": pa.list_(pa.float32())})
SUFFIXES = "csv tsv txt jsonl json ndjson tsf parquet pq arrow feather ipc xlsx xlsm xlsb xls ods zip".split()
SUFFIXES += ["csv.gz", "csv.bz2", "csv.zst", "csv.zip"]
TEXTS = ["", " ", "\n", "x", "a\0b", "\ud800", "\x1b[31m", "\u202e", "=1+1", "x" * 5000, "9" * 400, "NaN", "../../x"]
FREQS = "C bh CBMS WOM-1MON LWOM-MON REQ-S-MAR-MON-4 SME SMS BYE BQS FY5253-N-DEC-MON cbh 2B -B 0D ns ms".split()
FREQS += ["1.5D", "h30min", "3", "1000000000000D", "9" * 30 + "D", "9999999999YS", "nonsense", "D\n", "", "-1D"]
JSON = ["9" * 400, "9" * 5000, "-" + "9" * 400, "9" * 400 + ".5", "1e400", "NaN", "Infinity", "{}", "true", "null"]
JSON += ["[1]", "[]", "[[1]]", '["NaN"]', '["x"]', "[null]", "[true]", f"[{'9' * 400}]", '[1, "a", null, {}]', '""']
JSON += ['"x"', '"\\ud800"', '"\\u0000"', '"\\u001b[31m"', "[" * 5000 + "]" * 5000, "[" * 200_000, f'"{DAYS[0]}"', "1"]
CELLS: list[tuple[Any, Any]] = [
    ([1, 2], None), ([], pa.list_(pa.int64())), ([1], pa.large_list(pa.int64())), ([1, 2], pa.list_(pa.int64(), 2)),
    (["a"], None), ([dt.date(2024, 1, 1)], None), (None, pa.list_(pa.float32())), ([[1.0]], None), (b"\xff", None),
    ([1.0], pa.list_view(pa.float64())), ({"a": [1]}, None), ([("a", 1)], pa.map_(pa.string(), pa.int64())),
    (b"\xff", pa.binary_view()), (b"\xff", pa.large_binary()), (b"ab", pa.binary(2)), (Decimal("1.5"), None),
    (Decimal("9" * 70), pa.decimal256(76, 0)), (dt.timedelta(1), None), ((1, 2, 3), pa.month_day_nano_interval()),
    (1, pa.time32("s")), (1, pa.time64("ns")), (dt.date(2024, 1, 1), None), (None, pa.null()), (True, None),
    (2**64 - 1, pa.uint64()), (float("nan"), None), (float("inf"), None), (2**63 - 1, None), ("a", pa.string_view()),
    ("a", pa.large_string()), (DAYS[0], None), (Decimal("20240101"), None), ("\x1b[31m", None), ("a" * 100_000, None),
    (0.5, pa.float16()), (1e308, None), ("", None), ({"a": 1}, None),
]  # fmt: skip
"""Values of each Arrow type, and the types that do not follow from them."""


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def in_form(rng: random.Random, folder: Path, content: pa.Table) -> Any:
    """Return a table in memory or as a file; in memory if it has no other form."""
    forms = [lambda: content, lambda: write(folder, "x.parquet", written(pq.write_table, content))]
    forms += [lambda: write(folder, "x.arrow", ipc(pa.ipc.new_stream, content, n_rows=1 << 16))]
    forms += [lambda: write(folder, "x.feather", ipc(pa.ipc.new_file, content, n_rows=1 << 16))]
    if not any(isinstance(kind, pa.RunEndEncodedType) for kind in content.schema.types):  # it can crash pyarrow
        forms += [content.to_pandas]
    try:
        return rng.choice(forms)()
    except Exception:  # pyarrow or pandas lacks it
        return content


def paths(rng: random.Random, folder: Path) -> Source:
    """Return an impossible path, a file of the system, a broken URL, or what is no path."""
    file, zipped = write(folder, "x.csv", CSV), write(folder, "x.zip", archive({"x.csv": CSV.encode()}))
    odd = [f"/proc/{name}" for name in ("self/mem", "self/fd/0", "self/environ", "kmsg", "self/root", "cpuinfo")]
    odd += [f"/dev/{name}" for name in ("zero", "null", "random", "full", "stdin", "tty", "fd")]
    odd += ["", ".", "n" * 300, "n" * 300 + ".csv", "/n" * 2500 + ".csv", "a\0b.csv", "owner/na\0me", "a\nb.csv"]
    odd += ["~nobody/x.csv", f"{file}/y.csv", f"{file}/", "a\ud800.csv", "owner/name:subset", "\x1b[31m.csv"]
    hosts = ["a\0b", "a\ud800b", "localhost:99999999", "[::1", "127.0.0.1:9", ""]
    urls = [f"http://{host}/c.csv" for host in hosts] + ["nonsense://x/y.csv", "file:///etc/passwd", "file:///dev/zero"]
    urls += ["://", "simplecache::file:///etc/passwd", f"zip://x.csv::{zipped}", "memory://x.csv", "data://x.csv"]
    others = [0, True, [], ["x.csv"], {"a": 1}, object(), np.float64(3), pd.Series([1, 2]), b"x.csv", pd.NaT]
    return rng.choice([*odd, *urls, *others]), {}


def special_files(rng: random.Random, folder: Path) -> Source:
    """Return what is no ordinary file, or a folder of such things, odd names and partitions, or many files."""
    is_alone = rng.random() < 0.3
    names = "x.csv metadata.json metadata state.json dataset_dict.json a=1 _delta_log train".split()
    path = folder / (f"x.{rng.choice(SUFFIXES)}" if is_alone else rng.choice(names))
    os.chdir(folder)  # the path of a socket has at most 107 characters
    targets = [path, folder, folder / "nothing.csv", *map(Path, ("/dev/zero", "/dev/null", "/dev/full", "/dev/stdin"))]
    make: list[Callable[[], Any]] = [partial(path.symlink_to, target) for target in targets]
    make += [partial(os.mkfifo, path), path.mkdir, lambda: socket.socket(socket.AF_UNIX).bind(path.name)]
    rng.choice([*make, lambda: write(folder, path.name, CSV).chmod(0)])()
    for number in range(rng.choice([0, 0, 1, 2, 500])):
        name = bytes(rng.choices([*range(1, 47), *range(48, 256)], k=rng.randint(1, 40)))
        write(folder, os.fsdecode(name + rng.choice([b".csv", b"x"])), CSV.replace("A,", f"{number},"))
    for key in rng.sample(["a" * 200, "%00%ff", ".", " ", "\x1b[31m"], rng.choice([0, 0, 1, 2])):
        write(folder / f"{key}=1", "x.parquet", written(pq.write_table, pa.table(LONG)))
    return (path if is_alone else folder), {"duplicates": "first"}


def contents(rng: random.Random, folder: Path) -> Source:
    """Return a file that is empty, random, or in another format than its name says."""
    nothing, csv = pa.table(LONG).slice(0, 0), CSV.encode()
    heads = [b"PAR1\0", b"ARROW1\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"PK\3\4", b"FEA1"]
    heads += [b"\x1f\x8b", b"BZh91AY&SY", b"\x28\xb5\x2f\xfd", b"\xd0\xcf\x11\xe0", b"\x7fELF", b"\xef\xbb\xbf", b"["]
    whole = [b"", b"a", b"\n" * 100, b"[]", b"{}", HEADER.encode(), csv, CSV.encode("utf-16"), bz2.compress(b"")]
    whole += [written(pq.write_table, nothing), ipc(pa.ipc.new_stream, nothing), ipc(pa.ipc.new_file, pa.table(LONG))]
    whole += [archive(workbook([])), ipc(pa.ipc.new_stream, pa.table({})), gzip.compress(gzip.compress(csv))]
    whole += [archive({name: csv}) for name in ("../../x.csv", "/etc/x.csv", "\x1b.csv", "x.csv.gz", "x.parquet")]
    whole += [archive({}), archive({"x.csv": b""}), archive({"y.zip": archive({"x.csv": csv})}), gzip.compress(b"")]
    head = rng.choice(heads) + rng.choice([b"\0" * 600, rng.randbytes(5000), csv, b""])
    return write(folder, f"x.{rng.choice(SUFFIXES)}", rng.choice([head, rng.choice(whole)])), {}


def bombs(rng: random.Random, folder: Path) -> Source:
    """Return a small file with 6 GB of content, or a workbook with very many rows or 300 MB of nothing."""
    if rng.random() < 0.5:
        heads = [("csv", HEADER), ("csv", ""), ("parquet", "PAR1\0"), ("arrow", "ARROW1\0\0"), ("xlsx", "PK\3\4")]
        heads += [("json", "["), ("jsonl", '{"target":['), ("tsf", "@data\n"), ("feather", "FEA1")]
        block, (suffix, head) = rng.choice([" ", "a", "\n", "\0", "1,", '"']) * (1 << 20), rng.choice(heads)
        content = gzip.compress(head.encode()) + gzip.compress(block.encode()) * ((6 << 30) // len(block))
        return write(folder, f"x.{suffix}.gz", content), {"duplicates": "first"}
    members = workbook([COLUMNS, *(("A", day, 1.5) for day in DAYS)])
    text = '<c r="A{n}" t="inlineStr"><is><t xml:space="preserve"> </t></is></c>'
    row = '<row r="{n}">' + rng.choice(["", '<c r="A{n}" s="1"/>', text, '<c r="C{n}"><v>1</v></c>']) + "</row>"
    rows = "".join(row.format(n=number) for number in range(10, rng.choice([300_000, 1_500_000])))
    name, end = rng.choice([(SHEET, "</sheetData>"), (SHEET, "</sheetData>"), ("xl/workbook.xml", "</workbook>")])
    more = rng.choice([rows, rows, "<!-- x -->" * 30_000_000])
    members[name] = members[name].replace(end.encode(), (more + end).encode())
    return write(folder, "x.xlsx", archive(members)), {}


def excel(rng: random.Random, folder: Path) -> Source:
    """Return a workbook with odd values, ragged rows, or other coordinates, entities and nesting."""
    odd = [None, 1e10, dt.timedelta(3), dt.time(5), dt.date(2024, 1, 1), "#REF!", True, "=1/0", 1e308, -1, "x", 5, "A"]
    header = rng.choice([COLUMNS, COLUMNS, (1, 2.5, True), ("timestamp", None, "a"), ("target",)])
    rows = [rng.choice([("A", day, 1.5), rng.choices(odd, k=rng.randint(1, 5))]) for day in DAYS]
    members = workbook([header, *(rows if rng.random() < 0.5 else [("A", day, 1.5) for day in DAYS])])
    row = rng.choice(["30000000", "1048576", "4294967297", "0", "-1", "", "99999999999999999999"])
    cell = rng.choice(["XFD1048576", "ZZZZ9", "C0", "9", "C", "\u0661", "c9"])
    value = rng.choice(["1e999", "NaN", "&#xD800;", "&#0;", "999999999", "9" * 400, "&j;", "", "true", "x" * 100_000])
    entities = "".join(f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(9))
    edits = [("<v>1.5</v>", f"<v>{value}</v>"), ("<sheetData>", "<a>" * rng.choice([9, 200_000]) + "<sheetData>")]
    edits += [('"C9"', f'"{cell}"'), ('"9"', f'"{row}"'), ('B9"', f'B{row}"'), ('C9"', f'C{row}"')]
    edits += [("<worksheet", f'<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">{entities}]><worksheet')]
    for old, new in rng.sample(edits, rng.randint(0, 3)):
        members[SHEET] = members[SHEET].replace(old.encode(), new.encode())
    chosen = {"sheet": rng.choice([None, None, None, *TEXTS]), "wide": rng.random() < 0.3}
    return write(folder, "x.xlsx", archive(members)), chosen


def json_lines(rng: random.Random, folder: Path) -> Source:
    """Return rows whose values are of another type, far too long or too deep, or whose keys are odd, new or many."""
    lines = []
    for day in DAYS:
        row = {"item_id": '"A"', "timestamp": f'"{day}"', "target": rng.choice(["1", "[1, 2]"]), "promo": "1"}
        row |= {key: rng.choice(JSON) for key in rng.sample([*row, "start", "freq"], rng.randint(0, 2))}
        lines.append("{" + ", ".join(f'"{key}": {value}' for key, value in row.items()) + "}\n")
    whole = [rng.choice(JSON), f"[{rng.choice(JSON)}]", f"[{', '.join(lines)}]", '{"target": 1, "target": 2}\n' * 5]
    whole += [json.dumps({f"k{number}": number for number in range(100_000)} | {"target": 1})]
    whole += ["".join(f'{{"k{number}": 1, "target": 1}}\n' for number in range(100_000))]
    whole += [json.dumps({rng.choice(TEXTS): 1, "target": 1}) + "\n"]
    keys = {"past_covariates": ["promo"], "id_column": ["item_id", "promo"], "timestamp_column": ["timestamp", "promo"]}
    chosen = dict(rng.sample(sorted(keys.items()), rng.choice([0, 1])))
    return write(folder, rng.choice(["x.jsonl", "x.json"]), rng.choice([lines[0] * N, "".join(lines), *whole])), chosen


def metadata(rng: random.Random, folder: Path) -> Source:
    """Return a folder of GluonTS or datasets with wrong metadata, some of which name files elsewhere."""
    write(folder, "x.csv", CSV), write(folder / "train", "x.csv", CSV)
    filename = rng.choice([*JSON, '"../../../../etc/passwd"', '"/etc/hostname"', '"/dev/zero"', '"x.csv"'])
    values = [*JSON, '["train"]', f'[{{"filename": {filename}}}]']
    keys = ", ".join(f'"{key}": {rng.choice(values)}' for key in ("freq", "splits", "_data_files"))
    name = rng.choice(["metadata/metadata.json", "state.json", "dataset_dict.json", "dataset_info.json"])
    write(folder, name, rng.choice([rng.choice(JSON), f"{{{keys}}}"]))
    return folder, {}


def columns(rng: random.Random, folder: Path) -> Source:
    """Return a long, wide or nested table with a column of any Arrow type, whose values may be at its limits."""
    zones = ["Europe/Berlin", "Mars/Base", " ", "+99:99", "../x", "a\tb", None, None]
    stamp = pa.timestamp(rng.choice(["s", "ms", "us", "ns"]), rng.choice(zones))
    cell, kind = rng.choice(CELLS)
    ends = pa.array([rng.choice([2**63 - 1, -(2**63) + 1, 2**62, 1])] * N).view(stamp)
    odd = rng.choice([pa.array([cell] * N, kind), pa.array([cell] * N, kind), ends])
    positions = pa.array([0, *[None] * 3, *[0] * (N - 4)], pa.int32())
    coded = pa.DictionaryArray.from_arrays(positions, odd.slice(0, 1))
    union = pa.UnionArray.from_dense(pa.array([0] * N, pa.int8()), pa.array(range(N), pa.int32()), [odd])
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([N], pa.int32()), odd.slice(0, 1))
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((N, 2, 2)))
    odd = rng.choice([odd] * 5 + [coded, coded, union, runs, tensor])
    joined = {"past_covariates": ["x"], "id_column": ["item_id", "x"], "timestamp_column": ["timestamp", "x"]}
    forms: list[tuple[dict[str, Any], dict[str, Any]]] = [(LONG | {name: odd}, {}) for name in COLUMNS]
    forms += [(LONG | {"x": odd}, {key: names}) for key, names in joined.items()]
    forms += [(LISTS | {name: odd}, {}) for name in LISTS] + [(LISTS | {"x": odd}, {"id_column": ["item_id", "x"]})]
    wide = [{"timestamp": STAMPS, "a": odd}, {"timestamp": odd, "a": NUMBERS}]
    wide += [{"item_id": odd, "d_1": NUMBERS, "d_2": NUMBERS}]
    content, chosen = rng.choice([*forms, *((form, {"wide": True}) for form in wide)])
    return in_form(rng, folder, pa.table(content)), chosen


def frames(rng: random.Random, folder: Path) -> Source:
    """Return a frame or array that only pandas or NumPy have."""
    frame, nothing = pa.table(LONG).to_pandas(), pa.table(LONG).slice(0, 0)
    value = rng.choice([10**400, object(), 1j, "\ud800", (1,), b"x", dt.datetime(9999, 1, 1)])
    odd = [pd.Series([value] * N, dtype=object), ["a", 1, None, 1.5, b"x", (1,), "b", 2], pd.Categorical(["a"] * N)]
    odd += [pd.interval_range(0, N), pd.period_range("9000", periods=N, freq="Y"), pd.arrays.SparseArray([1.0] * N)]
    header = rng.choice([["target", "target"], [1, 2], pd.MultiIndex.from_tuples([("a", "b"), ("c", "d")])])
    arrays: list[Any] = [np.array([[object()]]), np.ones((2, 2, 2)), np.array(1.0), np.array([["1"]]), nothing]
    arrays += [np.full((2, 9), np.inf), np.ones((2, 2), complex), np.zeros((2, 2), [("a", int)]), np.empty((0, 5))]
    arrays += [np.broadcast_to(1.0, (10**6, 10**6)), np.empty((5, 0)), pa.table({})]
    arrays += [pd.DataFrame(np.ones((3, 2)), columns=header)]
    return rng.choice([frame.assign(**{rng.choice([*COLUMNS, *TEXTS]): rng.choice(odd)}), rng.choice(arrays)]), {}


def stores(rng: random.Random, folder: Path) -> Source:
    """Return a store with wrong names, formats, frequencies, starts or lengths, or offsets outside its values."""
    words = [*JSON, '["a"]', '["a", "b"]', '["b"]', '{"b": [1]}', '{"b": ["x"]}', '{"c": ["x"]}']
    words += ['{"target": {"kind": "x"}}', '{"target": {"decimal": "x"}}', '{"style": "iso", "zone": "x"}']
    keys = {"variates": ["targets", "past", "known", "categories"], "formats": ["timestamp", "values", "freq"]}
    texts = {key: ", ".join(f'"{name}": {rng.choice(words)}' for name in names) for key, names in keys.items()}
    fields = {key: rng.choice([f"{{{text}}}", rng.choice(JSON)]) for key, text in texts.items() if rng.random() < 0.4}
    fields |= {"freq": rng.choice(["D", "D", "D", *FREQS])} if rng.random() < 0.9 else {}
    starts = np.array(rng.choices([0, 0, 0, 1, 2**62, -(2**63), -59_011_459_200, 9_214_560_000], k=2)).view("M8[s]")
    lists = [np.full(n, rng.choice([1.0, 1.0, np.inf, np.nan]), np.float32) for n in (9, rng.choice([7, 0]))]
    arrays = [rng.choices(["a", "b", "c", "d", "", None], k=2), starts, pa.array(lists, STORE.field(2).type)]
    content = ipc(pa.ipc.new_stream, pa.table(arrays, schema=STORE.with_metadata(fields)))
    if rng.random() < 0.5:
        for old, odd in (([0, 1, 2], [-9, 0, 2, 10**9]), ([0, 9, 16], [-5, 3, 17, 10**9, 2**31 - 1])):
            new = [rng.choice([number, number, *odd]) for number in old]
            content = content.replace(np.array(old, np.int32).tobytes(), np.array(new, np.int32).tobytes())
    path = write(folder, "x.arrow", content + rng.choice([b"", b"", content, b"\xff\xff\xff\xff\0\0\0\0"]))
    return rng.choice([path, folder]), {}


def sizes(rng: random.Random, folder: Path) -> Source:
    """Return a table with very many columns, rows, or steps between the rows."""
    n, first = rng.choice([20_000, 100_000]), dt.date(1750, 1, 1)
    names = [",".join(str(first + dt.timedelta(k)) for k in range(n)), ",".join(f"d_{k}" for k in range(n))]
    head = f"{rng.choice(COLUMNS)},{rng.choice(names)}\n"
    if rng.random() < 0.5:
        rows = "".join(f"{rng.choice(['a', DAYS[k]])}{k}{',1' * n}\n" for k in range(3))
        return write(folder, "x.csv", head + rows), {"wide": rng.random() < 0.8}
    n_series, gap = rng.choice([(3000, 864_000), (300_000, 3600), (2, 3_155_760_000), (1, 10**12), (1, 60)])
    offsets = np.array([0, 1, 2, 3, gap, gap + 1], "m8[s]") if gap > 60 else np.arange(2_000_000).astype("m8[m]")
    times = np.tile(np.datetime64("2000-01-01", "s") + offsets, n_series)
    ids, values = np.repeat(np.arange(n_series), len(offsets)), np.ones(len(times))
    long = pa.table({"item_id": ids, "timestamp": times, "target": values})
    return in_form(rng, folder, long), {"freq": rng.choice([None, None, "bh"])}


def csv(rng: random.Random, folder: Path) -> Source:
    """Return a CSV file with open quotes, NULs, very long cells, or odd line ends."""
    rows, long = "A,2024-01-01,1\n" * 500_000, rng.choice(["1", " ", "1,234", '"', "A"]) * rng.choice([10**3, 10**6])
    whole = [f'{HEADER[:-1]}"\n{rows}', f'{HEADER}A,2024-01-01,"1\n{rows}', '"a""",' * 100_000 + "target\n1\n"]
    whole += [CSV.replace("\n", rng.choice(["\r", "\r\n", "\n\n", "\0\n", "\x0b", "\u2028"])), long, "a" * 10**8]
    lines = CSV.splitlines()
    for line in rng.choices(range(len(lines)), k=rng.randint(1, 3)):
        cells = lines[line].split(",")
        cells[-1] = rng.choice([*TEXTS, long, "x" + long, "1e999", "-0", "0x10", "1_0", "\u0663", "2024-02-30"])
        lines[line] = rng.choice([",", ",", ";", "\t", ",,"]).join(rng.sample(cells, len(cells)))
    return write(folder, rng.choice(["x.csv", "x.txt"]), rng.choice([rng.choice(whole), "\n".join(lines)])), {}


def options(rng: random.Random, folder: Path) -> Source:
    """Return an ordinary table, and odd values of the keys of `data`."""
    names = [*TEXTS, [], [""], ["a", "a"], ["item_id", "timestamp"], "target", ["x"] * 3000]
    roles = ["target", "id_column", "timestamp_column", "missing_values", "past_covariates", "known_covariates"]
    values: dict[str, list[Any]] = dict.fromkeys(roles, names) | {"freq": FREQS, "sheet": TEXTS, "wide": [True]}
    values["encoding"] = "nonsense base64 idna punycode utf-7 undefined utf-16 rot13 \0".split(" ")
    values["timestamp_format"] = [*TEXTS, "%", "%Y", "%Y\ud800", "%d" * 1000, "unix_ms", "steps", "excel"]
    values |= {"skip_rows": [10**9, 3, -1], "fill_missing": [1e308, float("nan"), -0.0], "decimal": [","]}
    chosen = {key: rng.choice(values[key]) for key in rng.sample(sorted(values), rng.randint(1, 2))}
    return rng.choice([write(folder, "x.csv", CSV), in_form(rng, folder, pa.table(LONG))]), chosen


def monash(rng: random.Random, folder: Path) -> Source:
    """Return a Monash file with a wrong header or wrong values."""
    header = rng.choices(["series_name string", "s date", "s numeric", "s x", ""], k=rng.randint(0, 3))
    frequency = rng.choice(["daily", "9" * 400 + "_minutes", "4_seconds", "x", ""])
    fields = rng.choices(["a", "99999-01-01 00-00-00", "2024-01-01 00-00-00", "", "\0", "1.5"], k=len(header))
    fields += [rng.choice(["1,2", "", "9" * 400, "?", "x", "1,,2", "NaN", "1," * 100_000, "\ud800"])]
    lines = [*(f"@attribute {line}" for line in header), f"@frequency {frequency}", "@data", ":".join(fields)]
    return write(folder, "x.tsf", "\n".join(lines) + "\n"), {}


KINDS = [paths, special_files, contents, excel, json_lines, metadata, columns, frames, stores, csv, options, monash]


def open_made(make: Callable[[random.Random, Path], Source], rng: random.Random, folder: Path) -> None:
    """Make a source, open it, and read its values."""
    from pipeline.data.source import open_source

    (folder / "in").mkdir()
    source, chosen = make(rng, folder / "in")
    store = open_source(source, folder / "cache", **chosen)
    for index in range(min(len(store), 1000)):
        assert store.item_ids[index] is not None
        np.nansum(store.rows(index))


def main() -> int:
    """Open the sources of the command line, and return the exit code."""
    import pyarrow.csv  # noqa: F401  # each worker has the modules

    import pipeline.data.source  # noqa: F401

    os.environ["HF_HUB_OFFLINE"] = "1"
    attacks = {kind.__name__: partial(open_made, kind) for kind in [*KINDS, bombs, sizes]}
    return run(__doc__, attacks, ("bombs", "sizes"))


if __name__ == "__main__":
    sys.exit(main())
