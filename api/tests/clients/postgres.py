"""psycopg 3, SQLAlchemy and pandas over the protocol of PostgreSQL."""

import datetime
import decimal
import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pandas
import polars
import psycopg
import sqlalchemy

EVENTS = 1_000
ADDRESS, PORT = os.environ["PG"].rsplit(":", 1)
FROM = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
# It would take far longer than any test.
ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a * b % 7 = 3"


def post(event):
    request = urllib.request.Request(f"http://{os.environ['HTTP']}/v1/metrics", json.dumps(event).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["epoch"]


def psycopg_asks():
    with psycopg.connect(host=ADDRESS, port=PORT, user="analyst", dbname="streamgauge", autocommit=True) as connection:
        for more in range(1, 4):
            post({"name": "memory", "value": more})
            row = connection.execute("SELECT count(*) FROM metrics WHERE name = %s", ("memory",)).fetchone()
            assert row == (more,), row
        sql = "SELECT ts, value, dimensions FROM metrics WHERE name = %s AND value >= %s ORDER BY ts LIMIT %s"
        for binary in [False, True]:
            with connection.cursor(binary=binary) as cursor:
                rows = cursor.execute(sql, ("cpu", 7.5, 2), prepare=True).fetchall()
                assert rows == [(FROM + datetime.timedelta(seconds=value), value, {"host": "a"}) for value in [8, 9]], rows
        # A cursor at the server gives some rows at a time, within a transaction.
        with connection.transaction(), connection.cursor(name="some") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT value FROM metrics WHERE name = 'cpu' ORDER BY value")
            assert [value for (value,) in cursor] == [float(value) for value in range(EVENTS)]
        with connection.cursor() as cursor, cursor.copy("COPY (SELECT value FROM metrics WHERE value < 2 AND name = 'cpu' ORDER BY 1) TO STDOUT") as copy:
            assert b"".join(bytes(part) for part in copy) == b"0\n1\n"
        types = ["timestamptz", "text", "float8", "json", "int8", "numeric", "bool", "float8[]", "interval", "bytea", "date"]
        sql = (
            "SELECT ts, name, value, dimensions, value::bigint, 12345.678::numeric(10, 3), value > 1, [value], INTERVAL '1 hour 1 second',"
            " X'00ff', DATE '2024-05-01' FROM metrics WHERE name = 'cpu' UNION ALL SELECT" + ",".join([" NULL"] * len(types))
        )
        expected = [
            (
                FROM + datetime.timedelta(seconds=value), "cpu", value, {"host": "a"}, value, decimal.Decimal("12345.678"), value > 1,
                [value], datetime.timedelta(hours=1, seconds=1), b"\x00\xff", datetime.date(2024, 5, 1),
            )
            for value in range(EVENTS)
        ] + [(None,) * len(types)]
        for copied in [
            f"COPY ({sql} ORDER BY 1) TO STDOUT (FORMAT binary)",
            f"COPY ({sql} ORDER BY 1) TO STDOUT WITH BINARY",
            f"COPY ({sql} ORDER BY 1) TO STDOUT",
        ]:
            with connection.cursor() as cursor, cursor.copy(copied) as copy:
                copy.set_types(types)
                assert list(copy.rows()) == expected, copied
        with connection.cursor() as cursor, cursor.copy("COPY (SELECT value FROM metrics WHERE false) TO STDOUT BINARY") as copy:
            copy.set_types(["float8"])
            assert list(copy.rows()) == []
        with connection.cursor() as cursor, cursor.copy("COPY BINARY metrics (value) TO STDOUT") as copy:
            all = b"".join(bytes(part) for part in copy)
        assert all.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1\0\0\0\x08") and all.endswith(b"\xff\xff"), all[:40]
        try:
            connection.execute("SELECT * FROM metric")
        except psycopg.errors.UndefinedTable as error:
            assert "did you mean metrics" in error.diag.message_hint, error.diag.message_hint
        else:
            raise AssertionError("a table that is not there was read")


def a_session_is_stopped_from_another():
    """As the button "Stop" of Superset's SQL Lab does it."""
    address = {"host": ADDRESS, "port": PORT, "user": "analyst", "dbname": "streamgauge", "autocommit": True}
    with psycopg.connect(**address) as asks, psycopg.connect(**address) as stops, ThreadPoolExecutor(1) as beside:
        (number,) = asks.execute("SELECT pg_backend_pid()").fetchone()
        (other,) = stops.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
        assert number == asks.info.backend_pid and other == stops.info.backend_pid and number != other, (number, other)
        for function in ["pg_terminate_backend", "pg_cancel_backend"]:
            question = beside.submit(asks.execute, ENDLESS)
            # Of its own question it is not told, so what it finds is the other one's.
            running = "SELECT pid, query FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active'"
            while not (found := stops.execute(running).fetchall()):
                assert not question.done(), question.exception()
            assert found == [(number, ENDLESS)], found
            (itself,) = stops.execute("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()").fetchone()
            assert itself.endswith("pid = pg_backend_pid()"), itself
            # By the number of a session that runs nothing, nothing ends; nor by what follows it.
            assert stops.execute(f"SELECT {function}({number + 100})").fetchone() == (False,)
            assert not question.done()
            stop = f"SELECT {function}(pid) FROM pg_stat_activity WHERE pid='{number}'"
            assert stops.execute(stop).fetchall() == [(True,)]
            assert isinstance(question.exception(), psycopg.errors.QueryCanceled), question.exception()
            assert asks.execute("SELECT pg_backend_pid()").fetchone() == (number,)
        # The number in the catalogue of the program is that of the question.
        ids = stops.execute("SELECT id FROM system.queries WHERE state = 'cancelled'").fetchall()
        assert len(ids) == 2 and all(id < 1_000_000 for (id,) in ids), ids


def settings_are_set_by_a_function():
    with psycopg.connect(host=ADDRESS, port=PORT, user="analyst", dbname="streamgauge", autocommit=True) as connection:
        ask = lambda sql, *values: connection.execute(sql, values).fetchone()[0]  # noqa: E731
        setting = lambda: (ask("SELECT current_setting('statement_timeout')"), ask("SHOW statement_timeout"))  # noqa: E731
        assert setting() == ("0", "0")
        assert ask("SELECT set_config('statement_timeout', %s, false)", "300ms") == "300ms"
        assert setting() == ("300ms", "300ms")
        for _ in range(2):
            try:
                connection.execute(ENDLESS)
            except psycopg.errors.QueryCanceled as error:
                assert "statement timeout" in str(error), error
            else:
                raise AssertionError("there was no timeout")
        # Within a transaction, and for it alone; what fails or is rolled back is set back.
        with connection.transaction():
            assert ask("SELECT pg_catalog.set_config('statement_timeout', '1min', true)") == "1min"
            assert setting() == ("1min", "1min")
        assert setting() == ("300ms", "300ms")
        with connection.transaction(force_rollback=True):
            ask("SELECT set_config('statement_timeout', '2min', false)")
        assert setting() == ("300ms", "300ms")
        assert ask("SELECT set_config('statement_timeout', NULL, false)") == "0"
        # It sets when the statement runs, and not when it is prepared or explained.
        connection.execute("EXPLAIN SELECT set_config('streamgauge.rows_max', '1', false)").fetchall()
        assert ask("SELECT current_setting('streamgauge.rows_max')") == "0"
        assert ask("SELECT set_config(name, '7', false) FROM (VALUES ('streamgauge.rows_max')) AS settings (name)") == "7"
        assert ask("SHOW streamgauge.rows_max") == "7"
        for name, value, says in [
            ("statement_timeout", "soon", "a time such as"),
            ("my.thing", "1", 'there is no setting "my.thing"'),
            ("server_version", "9", "cannot be changed"),
        ]:
            try:
                ask("SELECT set_config(%s, %s, false)", name, value)
            except psycopg.Error as error:
                assert says in str(error), error
            else:
                raise AssertionError(f"{name} was set")


def sqlalchemy_and_pandas_read():
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://analyst@{ADDRESS}:{PORT}/streamgauge")
    with engine.connect() as connection:
        inspector = sqlalchemy.inspect(connection)
        assert "metrics" in inspector.get_table_names() and "metrics_1m" in inspector.get_view_names()
        columns = {column["name"]: column["type"] for column in inspector.get_columns("metrics")}
        assert isinstance(columns["value"], sqlalchemy.Double) and isinstance(columns["name"], sqlalchemy.Text), columns
        metrics = sqlalchemy.Table("metrics", sqlalchemy.MetaData(), autoload_with=connection)
        question = (
            sqlalchemy.select(metrics.c.name, sqlalchemy.func.count().label("n"), sqlalchemy.func.max(metrics.c.value))
            .where(metrics.c.ts >= FROM, metrics.c.name.in_(["cpu", "none"]))
            .group_by(metrics.c.name)
        )
        assert connection.execute(question).all() == [("cpu", EVENTS, EVENTS - 1)]
        sql = sqlalchemy.text("SELECT ts, value FROM metrics WHERE name = :name ORDER BY ts")
        frame = pandas.read_sql(sql, connection, params={"name": "cpu"})
        assert len(frame) == EVENTS and frame["value"].sum() == sum(range(EVENTS))
        assert frame["ts"][1] - frame["ts"][0] == pandas.Timedelta(seconds=1)
        parts = pandas.read_sql(sql, connection, params={"name": "cpu"}, chunksize=300)
        assert [len(part) for part in parts] == [300, 300, 300, 100]
    engine.dispose()


def polars_reads():
    """By connectorx, which copies in binary."""
    uri = f"postgresql://analyst@{ADDRESS}:{PORT}/streamgauge"
    sql = "SELECT ts, name, value, dimensions, value::bigint AS whole, value > 1 AS big FROM metrics WHERE name = 'cpu' ORDER BY ts"
    frame = polars.read_database_uri(sql, uri)
    assert frame.shape == (EVENTS, 6), frame
    assert frame["value"].to_list() == [float(value) for value in range(EVENTS)], frame
    assert frame["ts"][1] == FROM + datetime.timedelta(seconds=1) and frame["big"].sum() == EVENTS - 2, frame
    assert json.loads(frame["dimensions"][0]) == {"host": "a"}, frame
    # In parts, at the same time, by the bounds of a column.
    parts = polars.read_database_uri(sql, uri, partition_on="whole", partition_num=3)
    assert sorted(parts["whole"].to_list()) == list(range(EVENTS)), parts
    for protocol in ["csv", "cursor"]:  # of "simple" connectorx itself says that it has not all types
        read = polars.read_database_uri(sql, uri, protocol=protocol)
        assert read["value"].sum() == sum(range(EVENTS)), protocol
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://analyst@{ADDRESS}:{PORT}/streamgauge")
    assert polars.read_database("SELECT count(*) AS n FROM metrics WHERE name = 'cpu'", engine)["n"][0] == EVENTS
    engine.dispose()


for part in [psycopg_asks, a_session_is_stopped_from_another, settings_are_set_by_a_function, sqlalchemy_and_pandas_read, polars_reads]:
    part()
    print(part.__name__)
