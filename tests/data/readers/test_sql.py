import datetime as dt
import sqlite3
import sys
from decimal import Decimal

import pyarrow as pa
import pytest
from support.servers import POSTGRES, postgres
from support.source_files import refused

from pipeline.core.series import Variates
from pipeline.data.columns import Columns
from pipeline.data.readers.sql import _to_array, read_query
from pipeline.data.rows import SourceLocation

sqlalchemy = pytest.importorskip("sqlalchemy")
PASSWORD = "pa55:w@rd%/x"
QUERY = "SELECT item_id, timestamp, target FROM sales"


@pytest.fixture
def sqlite(tmp_path):
    """A connection to a SQLite file and its URL."""
    connection = sqlite3.connect(tmp_path / "s.db")
    yield connection, f"sqlite:///{tmp_path}/s.db"
    connection.close()


@pytest.fixture(scope="module")
def server():
    """The folder of the socket of a PostgreSQL server."""
    pytest.importorskip("psycopg")
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed")
    with postgres(PASSWORD) as folder:
        yield folder


@pytest.fixture
def database(server, monkeypatch):
    """The URL of a database of PostgreSQL, whose password is in the environment."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return f"postgresql://tester@/postgres?host={server}"


def execute(url, *statements):
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


def read(query, url, columns=Columns()):
    return list(read_query(query, url, columns, SourceLocation("the query")))


def fill_sales(connection, n_rows):
    rows = ((f"s{i % 7}", f"2024-01-{i % 28 + 1:02d}", i / 4) for i in range(n_rows))
    connection.execute("CREATE TABLE sales (item_id TEXT, timestamp TEXT, target REAL)")
    connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", rows)
    connection.commit()


def test_the_result_of_a_query_is_read_in_order_and_in_blocks(sqlite):
    fill_sales(sqlite[0], 100_000)
    tables = read("SELECT target, 'unused' AS x, item_id, timestamp FROM sales", sqlite[1])
    table = pa.concat_tables(tables)
    assert table.column_names == ["item_id", "timestamp", "target"]
    assert table["target"].to_pylist() == [i / 4 for i in range(100_000)]
    assert table["item_id"].to_pylist()[:8] == ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s0"]
    assert [field.type for field in table.schema] == [pa.string(), pa.string(), pa.float64()]
    assert max(map(len, tables)) <= 65_536 and len(tables) >= 3


def test_the_columns_have_the_names_of_the_user(sqlite):
    fill_sales(sqlite[0], 3)
    query = 'SELECT item_id AS shop, timestamp AS "my day", target AS sales, 2 * target AS price FROM sales'
    columns = Columns("shop", "my day", Variates(("sales",), ("price",), ()))
    assert read(query, sqlite[1], columns)[0].column_names == ["shop", "my day", "sales", "price"]
    with refused("the query has no column 'target'", "shop", "data.target"):
        read(query, sqlite[1])
    with refused("2 columns named 'target'"):
        read("SELECT target, item_id AS target FROM sales", sqlite[1])


def test_a_wide_result_has_all_its_columns(sqlite):
    fill_sales(sqlite[0], 2)
    tables = read("SELECT timestamp, target AS a, target AS b FROM sales", sqlite[1], Columns(wide=True))
    assert tables[0].to_pylist()[1] == {"timestamp": "2024-01-02", "a": 0.25, "b": 0.25}


def test_a_result_without_rows_gives_no_table_but_its_columns_are_checked(sqlite):
    fill_sales(sqlite[0], 0)
    assert read(QUERY, sqlite[1]) == []
    with refused("no column 'target'"):
        read("SELECT item_id FROM sales", sqlite[1])


@pytest.mark.parametrize(
    "query",
    [
        "select 1 AS target",
        " \n-- the sales\n/* of\n all */ SELECT 1 AS target;",
        "WITH x AS (SELECT 1 AS target) SELECT * FROM x",
        "SELECT '100%' AS target WHERE 'a:b' LIKE '%:b' AND '%s' <> '?'",
    ],
)
def test_forms_of_queries(query, sqlite):
    assert len(pa.concat_tables(read(query, sqlite[1]))) == 1


def test_a_column_of_nulls_takes_the_type_of_later_or_earlier_values(sqlite):
    sqlite[0].execute("CREATE TABLE t (n INTEGER, target, text)")
    values = [
        (i, None if i < 1500 or i > 90_000 else i, None if i < 1500 or i > 90_000 else "x") for i in range(200_000)
    ]
    sqlite[0].executemany("INSERT INTO t VALUES (?, ?, ?)", values)
    sqlite[0].commit()
    tables = read("SELECT * FROM t ORDER BY n", sqlite[1], Columns("text"))
    types = [tuple(map(str, table.schema.types)) for table in tables]
    assert types[0] == ("null", "null") and set(types[1:]) == {("string", "int64")} and len(types) > 3
    assert pa.concat_tables(tables, promote_options="default")["target"].to_pylist() == [row[1] for row in values]


@pytest.mark.parametrize("n_rows", [10, 1000])  # the text is in the same or in a later block
def test_a_column_of_numbers_and_texts_is_refused(n_rows, sqlite):
    sqlite[0].execute("CREATE TABLE t (target)")
    sqlite[0].executemany("INSERT INTO t VALUES (?)", [*[(i,) for i in range(n_rows)], ("n/a",)])
    sqlite[0].commit()
    with refused("the query: the column target", "int.* and |and str", r"CAST\(target AS"):
        read("SELECT target FROM t", sqlite[1])


def test_whole_numbers_and_fractions_are_numbers(sqlite):
    sqlite[0].execute("CREATE TABLE t (target)")
    sqlite[0].executemany("INSERT INTO t VALUES (?)", [*[(i,) for i in range(3000)], (0.5,), (2**53 + 1,)])
    sqlite[0].commit()
    tables = read("SELECT target FROM t", sqlite[1])
    assert [str(table.schema.types[0]) for table in tables] == ["int64", "double"]
    assert tables[-1]["target"].to_pylist()[-2:] == [0.5, 2.0**53]


@pytest.mark.parametrize("query", ["DELETE FROM sales", "UPDATE sales SET target = 1", "selection", "-- SELECT", ""])
def test_a_query_that_does_not_begin_like_a_reading_one_is_refused(query, sqlite):
    fill_sales(sqlite[0], 1)
    with refused("the query must begin with SELECT"):
        read(query, sqlite[1])


@pytest.mark.parametrize(
    "query, fact",
    [
        ("WITH x AS (SELECT 1) DELETE FROM sales", "readonly"),
        ("SELECT 1 AS target; DROP TABLE sales", "one statement"),
        ("SELECT nope FROM sales", "no such column: nope"),
        ("SELECT FROM WHERE", "syntax error"),
    ],
)
def test_sqlite_refuses_to_write_and_invalid_queries(query, fact, sqlite):
    fill_sales(sqlite[0], 1)
    with refused("^the query: ", fact) as error:
        read(query, sqlite[1])
    assert "\n" not in str(error.value) and "sqlalche.me" not in str(error.value)
    assert sqlite[0].execute("SELECT count(*) FROM sales").fetchone() == (1,)


def test_a_missing_sqlite_file_is_refused_and_not_created(tmp_path):
    with refused("the query: no such file: .*none.db"):
        read(QUERY, f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    "url, fact",
    [
        ("nonsense", "not valid.*postgresql://host/database"),
        ("postgresql://host:pa55/database", "not valid"),
        ("unknown://host/database", "unknown"),
        ("postgresql://127.0.0.1:1/database", "[Rr]efused"),
        ("postgresql://tester@/database?host=/none", "connection to server on socket"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_in_one_line(url, fact):
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with refused("^the query: ", fact) as error:
        read(QUERY, url)
    assert "\n" not in str(error.value) and "pa55" not in str(error.value)


def test_missing_packages_are_named(monkeypatch, sqlite):
    with refused("^the query: ", "driver", "MySQLdb"):
        read(QUERY, "mysql://host/database")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with refused("^the query: ", "driver", r"chronos-native\[sql\]"):
        read(QUERY, "postgresql://host/database")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with refused("^the query: ", r"pip install 'chronos-native\[sql\]'"):
        read(QUERY, sqlite[1])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:pa55word@host/database",
        "postgresql://me:pa55/w@ord@host/database",
        "postgresql://host/database?user=me&password=pa55word",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dpa55word",
    ],
)
def test_a_password_in_the_url_is_refused(url):
    with refused("URL", "has a password", "PGPASSWORD", r"\$\{NAME\}") as error:
        read(QUERY, url)
    assert "pa55" not in str(error.value)


def test_variables_of_the_url_are_filled_from_the_environment(sqlite, tmp_path, monkeypatch):
    fill_sales(sqlite[0], 1)
    with refused("FOLDER is not set"):
        read(QUERY, "sqlite:///${FOLDER}/s.db")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", sqlite[1])
    assert read(QUERY, "sqlite:///${FOLDER}/s.db") == read(QUERY, "${DATABASE_URL}") != []


def test_types_of_postgresql(database):
    execute(
        database,
        "SET TIME ZONE 'Europe/Berlin'",
        "CREATE TABLE types (id uuid, day date, at timestamp, instant timestamptz, whole int8, price numeric(12, 3), "
        "real float8, open bool, name varchar, empty int, history float8[])",
        "INSERT INTO types VALUES ('00000000-0000-0000-0000-000000000001', '2024-02-29', '2024-02-29 12:30', "
        "'2024-07-01 00:00+02', 9007199254740993, 1.006, 'NaN', true, 'é', NULL, '{1.5,NULL}'), "
        "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    names = ("day", "at", "instant", "whole", "price", "real", "open", "name", "empty", "history")
    table = read("TABLE types", database, Columns("id", variates=Variates(names, (), ())))[0]
    expected = {"id": pa.string(), "day": pa.date32(), "at": pa.timestamp("us"), "whole": pa.int64()}
    expected |= {"price": pa.decimal128(4, 3), "real": pa.float64(), "open": pa.bool_(), "name": pa.string()}
    expected |= {"empty": pa.null(), "history": pa.list_(pa.float64())}
    assert {field.name: field.type for field in table.schema if field.name != "instant"} == expected
    row, nulls = table.to_pylist()
    assert set(nulls.values()) == {None} and table.schema.field("instant").type.tz is not None
    assert row["instant"] == dt.datetime(2024, 6, 30, 22, tzinfo=dt.timezone.utc) and row["real"] != row["real"]
    assert (row["id"][-2:], row["day"], row["at"]) == ("01", dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 30))
    assert (row["whole"], row["price"], row["open"]) == (9007199254740993, Decimal("1.006"), True)
    assert (row["name"], row["history"]) == ("é", [1.5, None])


@pytest.mark.parametrize(
    "values, expected",
    [
        ("1.50::numeric), ('NaN'), (NULL", [1.5, float("nan"), None]),
        ("12345678901234567890::numeric), (0.5", [12345678901234567890, 0.5]),
        ("18446744073709551616::numeric), (1", [2**64, 1]),
    ],
)
def test_numeric_values_beyond_the_usual(values, expected, database):
    found = read(f"SELECT * FROM (VALUES ({values})) AS t (target)", database)[0]["target"].to_pylist()
    assert str([value and float(value) for value in found]) == str([value and float(value) for value in expected])


def test_integers_beyond_64_bits_are_exact():
    location = SourceLocation("the query")
    assert _to_array([2**63 + 1, None, 1], "item_id", {}, location).to_pylist() == [2**63 + 1, None, 1]


def test_a_percent_sign_and_a_colon_are_no_placeholders(database):
    query = "SELECT '5%' AS item_id, 1 AS target WHERE ':a' LIKE '%:a' AND '%s' <> '$1'"
    assert read(query, database)[0].to_pylist() == [{"item_id": "5%", "target": 1}]


def test_a_list_that_arrow_lacks_is_refused(database):
    with refused("the column target", "CAST"):
        read("SELECT ARRAY['NaN'::numeric] AS target", database)


def test_a_long_result_is_streamed_in_constant_memory(database):
    execute(
        database,
        "CREATE TABLE sales AS SELECT 's' || i % 1000 AS item_id, timestamp '2024-01-01' + i * interval '1 hour' AS "
        "timestamp, i / 4.0::float8 AS target FROM generate_series(0, 299999) AS i",
    )
    n_rows = n_bytes = 0
    base = pa.total_allocated_bytes()
    for table in read_query(QUERY, database, Columns(), SourceLocation("the query")):
        assert table["target"][0].as_py() == n_rows / 4
        n_rows += len(table)
        n_bytes = max(n_bytes, pa.total_allocated_bytes() - base)
    assert n_rows == 300_000 and n_bytes < 2 * (4 << 20)


def test_rows_with_long_lists_are_read_in_small_blocks(database):
    query = "SELECT i AS item_id, ARRAY(SELECT j::float8 FROM generate_series(1, 2000) AS j) AS target FROM"
    tables = read(f"{query} generate_series(1, 3000) AS i", database)
    assert sum(map(len, tables)) == 3000 and max(table.nbytes for table in tables[1:]) <= 4 << 20


@pytest.mark.parametrize(
    "query, fact",
    [
        ("WITH x AS (DELETE FROM victims RETURNING target) SELECT * FROM x", "data-modifying"),
        ("SELECT delete_victims() AS target", "read-only transaction"),
        ("SELECT 1 AS target; COMMIT; DROP TABLE victims", "multiple commands"),
        ("SELECT nothing FROM victims", '"nothing" does not exist'),
        ("SELECT 1 / (target - 1) AS target FROM victims", "division by zero"),
        ("SELECT timestamp 'infinity' AS target", "timestamp too large"),
    ],
)
def test_postgresql_refuses_to_write_and_invalid_queries(query, fact, database):
    execute(
        database,
        "DROP TABLE IF EXISTS victims",
        "CREATE TABLE victims AS SELECT 1 AS target",
        "CREATE OR REPLACE FUNCTION delete_victims() RETURNS int LANGUAGE sql AS 'DELETE FROM victims RETURNING 1'",
    )
    with refused("^the query: ", fact) as error:
        read(query, database)
    assert "\n" not in str(error.value) and PASSWORD not in str(error.value)
    assert read("TABLE victims", database)[0].to_pylist() == [{"target": 1}]


def test_the_password_comes_from_the_environment_or_pgpass(database, server, tmp_path, monkeypatch):
    query = "SELECT 1 AS target"
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    with refused("^the query: ", "password"):
        read(query, database)
    monkeypatch.setenv("SECRET", PASSWORD)
    url = f"postgresql://tester:${{SECRET}}@/postgres?host={server}"
    assert read(query, url)[0].num_rows == 1
    (tmp_path / "pgpass").write_text(f"*:*:*:tester:{PASSWORD}".replace(":w@", r"\:w@") + "\n")
    (tmp_path / "pgpass").chmod(0o600)
    assert read(query, database)[0].num_rows == 1
    monkeypatch.setenv("SECRET", "wr0ng-one")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with refused("^the query: ", "authentication failed") as error:
        read(query, url)
    assert "wr0ng" not in str(error.value)
