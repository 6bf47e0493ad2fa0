"""ADBC over Flight SQL, with a password and TLS."""

import os
import pathlib

import adbc_driver_flightsql.dbapi as flight
from adbc_driver_flightsql import DatabaseOptions

AUTHORITY = pathlib.Path(__file__).parent.parent / "fixtures/tls/authority.pem"


def count(**options):
    address = f"grpc+tls://{os.environ['FLIGHT']}"
    options = {DatabaseOptions.TLS_ROOT_CERTS.value: AUTHORITY.read_text(), **options}
    with flight.connect(address, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM metrics WHERE value >= $1", (500,))
        return cursor.fetchone()


assert count(username="anybody", password="slow river") == (500,)
for wrong in [{}, {"username": "anybody", "password": "slow"}]:
    try:
        count(**wrong)
    except flight.Error as error:
        assert "password" in str(error), error
    else:
        raise AssertionError(f"{wrong} lets in")
