"""psycopg 3, SQLAlchemy and pandas over the protocol of PostgreSQL."""

import datetime
import json
import os
import urllib.request

import pandas
import psycopg
import sqlalchemy

EVENTS = 1_000
ADDRESS, PORT = os.environ["PG"].rsplit(":", 1)
FROM = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)


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
        try:
            connection.execute("SELECT * FROM metric")
        except psycopg.errors.UndefinedTable as error:
            assert "did you mean metrics" in error.diag.message_hint, error.diag.message_hint
        else:
            raise AssertionError("a table that is not there was read")


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


for part in [psycopg_asks, sqlalchemy_and_pandas_read]:
    part()
    print(part.__name__)
