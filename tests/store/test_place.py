"""Messages show user, host, port and database of a log; a URL that the driver would quote in full is refused first."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.fsm.errors import ConfigError
from instar.store.place import Place, place_of

POSTGRESQL = "postgresql+psycopg://"
USABLE = {
    "agents@db:5432/agents?password=s3cr3t&sslmode=require": "agents@db:5432/agents",
    "agents:s3cr3t@db.example/agents": "agents@db.example/agents",
    "agents:s3%40cr3t@db/agents": "agents@db/agents",
    "agents:s3?cr3t@db/agents": "agents@db/agents",
    "agents:s3#cr3t@db/agents": "agents@db/agents",
    "agents:s3cr3t@[::1]:5432/agents": "agents@[::1]:5432/agents",
    "agents@/agents?host=/run/postgresql": "agents@/agents",
    "db/agents": "db/agents",
}
REFUSED = {
    "agents:s3@cr3t@db": "agents@db",
    "agents:s3@cr3t@db:5432/agents?password=s3cr3t": "agents@db:5432/agents",
    "agents:s3/cr3t@db/agents": "agents@db/agents",
    "agents:s3 cr3t@db/agents": "agents@db/agents",
    "agents:s3%cr3t@db/agents": "agents@db/agents",
    "agents:s3%00cr3t@db/agents": "agents@db/agents",
    "agents:x@cr3t?s3@db/agents": "(not shown)",
    "agents@db/agents?password=x@cr3t": "(not shown)",
    "agents:cr3t/agents": "(not shown)",
    "agents@db:cr3t/agents": "(not shown)",
}


@pytest.mark.parametrize("url", USABLE)
def test_messages_show_no_password(tmp_path: Path, url: str) -> None:
    place = place_of(Place(tmp_path / "log.db", f"{POSTGRESQL}{url}", "s"))
    assert place.name == f"stream s of {POSTGRESQL}{USABLE[url]}"


@pytest.mark.parametrize("url", REFUSED)
def test_url_that_the_driver_would_quote_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="%40") as told:
        place_of(Place(tmp_path / "log.db", f"{POSTGRESQL}{url}", "s"))
    shown = REFUSED[url]
    assert f"URL {shown if shown == '(not shown)' else POSTGRESQL + shown} cannot" in str(told.value)
    assert "cr3t" not in str(told.value)


def test_another_scheme_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"URL mysql://me@db/agents is not understood") as told:
        place_of(Place(tmp_path / "log.db", "mysql://me:cr3t@db/agents?password=cr3t", "s"))
    assert "cr3t" not in str(told.value)
