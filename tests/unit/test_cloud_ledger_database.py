"""The ledger's database is brought up to date at start, whoever else starts."""

from __future__ import annotations

import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from cloud_ledgers import postgres_database
from isthmus.cloud.fleet import tables as fleet_tables
from isthmus.cloud.ledger.database import (
    _MIGRATION_LOCK,
    make_engine,
    mapped,
    migrate,
    parse_url,
    sqlite_url,
)
from isthmus.core.errors import ConfigError, InternalError, Unavailable


def migrated(url: sa.URL) -> sa.Engine:
    engine = make_engine(url, timeout_s=20)
    migrate(engine)
    return engine


def test_the_migrations_make_the_tables_that_the_code_knows(ledger_url: sa.URL) -> None:
    engine = migrated(ledger_url)
    with engine.connect() as connection:
        assert (
            compare_metadata(MigrationContext.configure(connection), fleet_tables.devices.metadata)
            == []
        )
    engine.dispose()


def test_gateways_that_start_together_all_find_the_schema(ledger_url: sa.URL) -> None:
    with ThreadPoolExecutor(8) as pool:
        for engine in pool.map(migrated, [ledger_url] * 8):
            engine.dispose()


@pytest.mark.postgres
def test_a_change_of_the_schema_is_not_held_to_the_time_of_a_statement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def upgrade(config: Config, revision: str) -> None:
        config.attributes["connection"].execute(sa.text("SELECT pg_sleep(1)"))
        done.append(revision)

    done: list[str] = []
    monkeypatch.setattr("alembic.command.upgrade", upgrade)
    with postgres_database() as url:
        engine = make_engine(url, timeout_s=0.2)
        migrate(engine)
        engine.dispose()
    assert done == ["head"]


@pytest.mark.postgres
def test_a_gateway_waits_until_another_has_changed_the_schema() -> None:
    with postgres_database() as url, ThreadPoolExecutor(1) as pool:
        other, engine = make_engine(url), make_engine(url, timeout_s=0.2)
        with other.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            ours = pool.submit(migrate, engine)
            with pytest.raises(TimeoutError):
                ours.result(1.0)
        ours.result()
        engine.dispose()
        other.dispose()


def test_a_database_of_a_newer_program_is_not_touched(ledger_url: sa.URL) -> None:
    engine = migrated(ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer isthmus"):
        migrate(engine)
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://u:geheim@h/d", "geheim"])
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_url(url)
    assert "geheim" not in str(refused.value)


def test_a_damaged_file_says_so_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 40)
    engine = make_engine(sqlite_url(path))
    with pytest.raises(Unavailable, match=r"the ledger's file is damaged .*move it away"):
        migrate(engine)
    engine.dispose()


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "a folder, 100% new" / "ledger.db"
    migrated(sqlite_url(path)).dispose()
    assert path.exists()


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.db"
    engine = migrated(sqlite_url(path))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    engine.dispose()
    assert modes == {0o600}


def test_a_database_that_is_away_is_told_without_the_way_to_it() -> None:
    engine = make_engine(parse_url("postgresql://someone:geheim@127.0.0.1:1/books"))
    with pytest.raises(Unavailable) as away:
        migrate(engine)
    assert not {"geheim", "someone", "books", "127.0.0.1"} & set(str(away.value).split())
    assert away.value.__cause__ is None


def test_a_database_that_takes_connections_and_says_nothing_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        engine = make_engine(parse_url(f"postgresql://someone@127.0.0.1:{port}/books"), timeout_s=1)
        with pytest.raises(Unavailable):
            migrate(engine)


def test_a_statement_that_is_wrong_is_our_fault_and_shows_no_value(ledger_url: sa.URL) -> None:
    engine = migrated(ledger_url)
    with pytest.raises(InternalError) as wrong, mapped(), engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO gateways VALUES (:secret)"), {"secret": "geheim"})
    assert "geheim" not in str(wrong.value)
    engine.dispose()
