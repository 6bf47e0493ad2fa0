"""ADBC over Flight SQL: questions, values, streams, pandas, browsing, cancelling."""

import json
import os
import threading
import urllib.request

import adbc_driver_flightsql.dbapi as flight
import adbc_driver_manager
import pandas
import pyarrow
from adbc_driver_flightsql import ConnectionOptions

EVENTS = 1_000
LONG = "SELECT a, b FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"


def post(event):
    request = urllib.request.Request(f"http://{os.environ['HTTP']}/v1/metrics", json.dumps(event).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["epoch"]


def fails(kind, says, work):
    try:
        work()
    except kind as error:
        assert says in str(error), error
    else:
        raise AssertionError(f"no error that says {says!r}")


def ask(connection, sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def questions(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT ts, name, value, dimensions, 'x' AS word, NULL AS nothing FROM metrics ORDER BY ts")
        table = cursor.fetch_arrow_table()
    assert table.num_rows == EVENTS
    assert table.schema.field("ts").type == pyarrow.timestamp("us", tz="UTC")
    assert table.schema.field("word").type == pyarrow.string()
    assert table.column("value").to_pylist() == [float(value) for value in range(EVENTS)]
    assert dict(table.column("dimensions")[0].as_py()) == {"host": "a"}

    # An event is in the next answer.
    for more in range(1, 4):
        post({"name": "memory", "value": more})
        assert ask(connection, "SELECT count(*) FROM metrics WHERE name = 'memory'") == [(more,)]
    assert ask(connection, "SELECT value FROM metrics WHERE value < 0") == []


def values(connection):
    sql = "SELECT value FROM metrics WHERE name = $1 AND value >= $2 ORDER BY value LIMIT $3"
    assert ask(connection, sql, ("cpu", 7.5, 2)) == [(8.0,), (9.0,)]
    assert ask(connection, sql, ("cpu", 3, 1)) == [(3.0,)]
    moment = pandas.Timestamp("2024-05-01T00:00:05Z").to_pydatetime()
    assert ask(connection, "SELECT count(*) FROM metrics WHERE name = 'cpu' AND ts < $1", (moment,)) == [(5,)]
    assert ask(connection, "SELECT $1::bigint IS NULL", (None,)) == [(True,)]
    with connection.cursor() as cursor:
        schema = cursor.adbc_prepare(sql)
        kinds = [(field.name, field.type) for field in schema]
        assert kinds == [("$1", pyarrow.string()), ("$2", pyarrow.float64()), ("$3", pyarrow.int64())], kinds
    fails(flight.ProgrammingError, "parameters up to $1", lambda: ask(connection, "SELECT $1::bigint"))


def streams(connection):
    with connection.cursor() as cursor:
        cursor.execute(LONG)
        reader = cursor.fetch_record_batch()
        assert reader.schema.names == ["a", "b"]
        rows = 0
        while rows < 100_000:
            rows += reader.read_next_batch().num_rows
        # The rest is never computed: it would be 10^12 rows.
        threading.Timer(0.2, cursor.adbc_cancel).start()
        fails(Exception, "ancel", lambda: [None for _ in reader])
    assert ask(connection, "SELECT 1") == [(1,)]


def frames(connection):
    frame = pandas.read_sql("SELECT ts, value FROM metrics WHERE name = 'cpu' ORDER BY ts", connection)
    assert list(frame.columns) == ["ts", "value"] and len(frame) == EVENTS
    assert str(frame["ts"].dt.tz) == "UTC" and frame["value"].sum() == sum(range(EVENTS))
    with connection.cursor() as cursor:
        cursor.execute("SELECT date_bin(INTERVAL '1 minute', ts) AS minute, avg(value) AS mean FROM metrics "
                       "WHERE name = 'cpu' GROUP BY 1 ORDER BY 1")
        assert cursor.fetch_df()["mean"][0] == 29.5


def browsing(connection):
    objects = connection.adbc_get_objects(depth="all", db_schema_filter="public").read_all().to_pylist()
    assert [catalog["catalog_name"] for catalog in objects] == ["streamgauge"]
    tables = {table["table_name"]: table for table in objects[0]["catalog_db_schemas"][0]["db_schema_tables"]}
    assert tables["metrics"]["table_type"] == "TABLE" and tables["metrics_1m"]["table_type"] == "VIEW"
    names = [column["column_name"] for column in tables["metrics"]["table_columns"]]
    assert names == ["ts", "name", "value", "dimensions", "source"], names
    assert connection.adbc_get_table_schema("metrics", db_schema_filter="public").names == names
    assert "TABLE" in connection.adbc_get_table_types()
    assert connection.adbc_get_info()["vendor_name"] == "streamgauge"
    with connection.cursor() as cursor:
        assert cursor.adbc_execute_schema("SELECT value AS v FROM metrics").names == ["v"]


def views(connection):
    assert ask(connection, "CREATE MATERIALIZED VIEW m AS SELECT name, max(value) AS most FROM metrics GROUP BY name")
    assert ("m",) in ask(connection, "SELECT table_name FROM information_schema.views")
    assert ask(connection, "DROP MATERIALIZED VIEW m") == [("m", "was dropped")]


def errors(connection):
    fails(flight.ProgrammingError, 'there is no table "metric"', lambda: ask(connection, "SELECT * FROM metric"))
    fails(flight.NotSupportedError, "INSERT is not answered here", lambda: ask(connection, "INSERT INTO metrics VALUES (1)"))
    table = pyarrow.table({"value": [1.0]})
    with connection.cursor() as cursor:
        fails(flight.NotSupportedError, "/api/v1/streams", lambda: cursor.adbc_ingest("metrics", table, mode="append"))


def epochs(connection):
    header = ConnectionOptions.RPC_CALL_HEADER_PREFIX.value + "x-streamgauge-epoch"
    epoch = post({"name": "disk", "value": 1})
    connection.adbc_connection.set_options(**{header: str(epoch)})
    assert ask(connection, "SELECT count(*) FROM metrics WHERE name = 'disk'") == [(1,)]
    connection.adbc_connection.set_options(**{header: str(epoch + 3_600_000_000)})
    fails(adbc_driver_manager.Error, "is not visible yet", lambda: ask(connection, "SELECT 1"))


with flight.connect(f"grpc://{os.environ['FLIGHT']}", autocommit=True) as connection:
    for part in [questions, values, streams, frames, browsing, views, errors, epochs]:
        part(connection)
        print(part.__name__)
