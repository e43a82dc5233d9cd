"""Statements that the driver runs itself behave as those that SQLAlchemy runs."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from isthmus.cloud.ledger.database import is_transient, make_engine, sqlite_url
from isthmus.cloud.ledger.dialect import insert
from isthmus.cloud.ledger.prepared import Prepared

TABLE = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("big", sa.Boolean),
    sa.Column("status", sa.String),
)
ADD = Prepared(
    lambda dialect: insert(dialect, TABLE).on_conflict_do_nothing().returning(TABLE.c.name)
)
CLOSE = Prepared(
    lambda dialect: (
        sa.update(TABLE)
        .where(TABLE.c.name == sa.bindparam("b_name"), TABLE.c.status == "open")
        .values(status=sa.bindparam("b_status"))
    )
)


@pytest.fixture
def engine(tmp_path):
    engine = make_engine(sqlite_url(tmp_path / "things.db"), timeout_s=0.05)
    TABLE.metadata.create_all(engine)
    yield engine
    engine.dispose()


def thing(name, status="open"):
    return {"name": name, "big": True, "status": status}


def test_what_it_returns_is_told_and_nothing_where_it_changed_nothing(engine):
    with engine.begin() as connection:
        assert ADD.run(connection, thing("a")).row == ("a",)
        assert ADD.run(connection, thing("a")).row is None
        assert connection.execute(sa.select(TABLE)).one() == ("a", True, "open")


def test_rows_that_it_changed_are_counted_over_all_values_that_it_was_given(engine):
    with engine.begin() as connection:
        for name, status in (("a", "open"), ("b", "open"), ("c", "shut")):
            ADD.run(connection, thing(name, status))
        ends = [{"b_name": name, "b_status": "done"} for name in "abc"]
        assert CLOSE.run(connection, *ends).rows == 2
        assert CLOSE.run(connection, ends[0]).rows == 0


def test_its_work_is_undone_with_the_transaction(engine):
    with engine.connect() as connection:
        with connection.begin() as transaction:
            ADD.run(connection, thing("a"))
            transaction.rollback()
        assert connection.execute(sa.select(TABLE)).all() == []


def test_a_database_in_other_hands_is_an_error_that_may_pass(engine):
    with engine.begin(), pytest.raises(DBAPIError) as raised, engine.begin():
        pass
    assert is_transient(raised.value)


def test_an_error_shows_no_values(engine):
    twice = Prepared(lambda dialect: sa.insert(TABLE))
    with engine.begin() as connection, pytest.raises(DBAPIError) as raised:
        twice.run(connection, thing("secret"), thing("secret"))
    assert not is_transient(raised.value)
    assert "secret" not in str(raised.value)


def test_a_value_that_is_missing_is_no_null(engine):
    with engine.begin() as connection, pytest.raises(KeyError):
        ADD.run(connection, {"name": "a", "big": True})


def test_a_connection_that_is_gone_is_left_for_another(engine):
    with engine.connect() as connection:
        connection.connection.driver_connection.close()
        with pytest.raises(DBAPIError):
            ADD.run(connection, thing("a"))
        assert connection.invalidated
