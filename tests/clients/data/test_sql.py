"""SQL sources: one SELECT, read-only, also from a child process."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hansa.clients.data.sources import read_in_subprocess, read_source
from hansa.clients.data.sql import check_query, read_sql
from hansa.contract.errors import DataError
from hansa.contract.sources import CsvSource, SqlSource

QUERY = "SELECT y, age FROM patients WHERE note <> 'a; b' ORDER BY age"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "ward.db") as connection:
        connection.execute("CREATE TABLE patients (y INTEGER, age REAL, note TEXT)")
        connection.executemany(
            "INSERT INTO patients VALUES (?, ?, ?)", [(1, 30.5, "x"), (0, None, "y"), (1, 50, "a; b")]
        )
    return tmp_path


def test_a_query_gives_a_table_and_the_url_is_filled_from_the_environment(database: Path) -> None:
    table = read_sql(SqlSource(url="sqlite:///${NAME}.db", query=QUERY), database, {"NAME": "ward"})
    assert table.to_dict(as_series=False) == {"y": [0, 1], "age": [None, 30.5]}


def test_a_child_process_hands_the_same_table_over(database: Path) -> None:
    source = SqlSource(url="sqlite:///ward.db", query=QUERY)
    assert read_in_subprocess(source, database).equals(read_source(source, database))


def test_an_error_of_the_child_process_is_ours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file$"):
        read_in_subprocess(CsvSource(path="none.csv"), tmp_path)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM patients",
        "SELECT 1; DELETE FROM patients",
        "WITH gone AS (DELETE FROM patients RETURNING *) SELECT * FROM gone",
        "SELECT * INTO copy FROM patients",
        "-- SELECT\nDROP TABLE patients",
        "/* SELECT */ UPDATE patients SET y = 1",
        "PRAGMA writable_schema = 1",
        "",
    ],
)
def test_whatever_writes_is_refused(query: str) -> None:
    with pytest.raises(DataError, match="SQL query"):
        check_query(query)


@pytest.mark.parametrize(
    "query",
    [
        "select y from t;",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a",
        "SELECT replace(note, 'drop', '') FROM t -- delete later",
        "SELECT \"set\" FROM t WHERE note = 'insert; update'",
    ],
)
def test_whatever_reads_is_let_through(query: str) -> None:
    check_query(query)


def test_the_connection_itself_cannot_write(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.clients.data.sql.check_query", lambda query: None)
    with pytest.raises(DataError, match="readonly"):
        read_sql(SqlSource(url="sqlite:///ward.db", query="DELETE FROM patients RETURNING y"), database, {})


def test_errors_name_what_is_wrong_and_hide_the_password(database: Path) -> None:
    with pytest.raises(DataError, match="environment variable SECRET is not set"):
        read_sql(SqlSource(url="postgresql://u:${SECRET}@h/d", query="SELECT 1"), database, {})
    with pytest.raises(DataError, match=r"other\.db: no such file"):
        read_sql(SqlSource(url="sqlite:///other.db", query="SELECT 1"), database, {})
    with pytest.raises(DataError, match="no such column: weight"):
        read_sql(SqlSource(url="sqlite:///ward.db", query="SELECT weight FROM patients"), database, {})
    with pytest.raises(DataError) as caught:
        read_sql(
            SqlSource(url="postgresql+psycopg://u:hunter2@127.0.0.1:1/d", query="SELECT 1"), database, {}
        )
    assert "hunter2" not in str(caught.value)
    with pytest.raises(DataError, match="gives no rows"):
        read_sql(SqlSource(url="sqlite:///ward.db", query="SELECT y FROM patients WHERE y > 5"), database, {})


def test_colons_in_a_query_are_not_parameters(database: Path) -> None:
    table = read_sql(
        SqlSource(url="sqlite:///ward.db", query="SELECT ':x' AS mark, '10:30' AS hour"), database, {}
    )
    assert table.row(0) == (":x", "10:30")
