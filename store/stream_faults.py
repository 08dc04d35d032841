"""Says in what the guards of a stream of PostgreSQL are not as the migrations make them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from .migrate import WRITER_SUFFIX
from .reader import LogReader

_TRIGGERS: Final = {
    "events_no_update": "BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION events_check_update()",
    "events_no_delete": "BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION events_refuse()",
    "events_no_truncate": "BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION events_refuse()",
    "events_appended": "BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION events_check_insert()",
    "events_erased": "AFTER INSERT ON events FOR EACH ROW WHEN (new.type = 'PayloadErased'::text) "
    "EXECUTE FUNCTION events_erase()",
    "blobs_collected": "INSTEAD OF INSERT ON doomed FOR EACH ROW EXECUTE FUNCTION blobs_collect()",
}
_VIEW: Final = "SELECT digest, size AS seq FROM blobs WHERE 1 = 0;"
_OF_OWNER: Final = {"events_erase", "blobs_collect"}
"""Functions that act as the owner of the tables."""
_TABLES: Final = {"alembic_version", "blobs", "cursors", "events", "state_snapshots"}
_RIGHTS: Final = {
    "alembic_version": {"SELECT"},
    "blobs": {"SELECT", "INSERT"},
    "cursors": {"SELECT", "INSERT", "UPDATE"},
    "doomed": {"INSERT"},
    "events": {"SELECT", "INSERT"},
    "state_snapshots": {"SELECT", "INSERT", "DELETE"},
}
"""What the role that appends may; who else was given anything may read at most."""
_HERE: Final = "(SELECT oid FROM pg_namespace WHERE nspname = ?)"


def stream_faults(reader: LogReader) -> list[str]:
    """Compares triggers, functions, the view, tables and rights of a stream with what the migrations make.

    Raises:
        LogUnavailable: it cannot be looked at.
    """
    looks = (_triggers, _functions, _relations, _rights)
    return [fault for look in looks for fault in look(reader, reader.place.stream)]


def _triggers(reader: LogReader, stream: str) -> list[str]:
    rows = reader.query(
        "SELECT tgname, tgenabled::text, pg_get_triggerdef(t.oid, true) FROM pg_trigger t "
        f"JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = {_HERE} AND NOT tgisinternal ORDER BY tgname",
        (stream,),
    )
    wanted = {name: made for name, made in _TRIGGERS.items() if name != "blobs_collected" or reader.schema >= "0003"}
    faults = [f"the trigger {name} is missing" for name in sorted(set(wanted) - {name for name, *_ in rows})]
    for name, mode, made in rows:
        if name not in wanted:
            faults.append(f"the trigger {name} is not of Instar's making")
        elif made != f"CREATE TRIGGER {name} {wanted[name]}":
            faults.append(f"the trigger {name} was altered")
        # A always fires; O, the usual, does not under session_replication_role = replica; a view's can stay at that.
        elif mode != ("O" if name == "blobs_collected" else "A"):
            faults.append(f"the trigger {name} does not always fire")
    return faults


@cache
def _sources(revision: str) -> dict[str, str]:
    """Gives the source of each function that the migrations up to a revision make."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import instar.migrations

    config = Config()
    config.set_main_option("script_location", str(Path(instar.migrations.__file__).parent))
    scripts = ScriptDirectory.from_config(config).iterate_revisions(revision, "base")
    statements = (text for script in scripts for text in getattr(script.module, "_POSTGRESQL", ()))
    found = (re.search(r"CREATE FUNCTION (\w+)\(\).+?\$\$(.+)\$\$", text, re.DOTALL) for text in statements)
    return {match[1]: match[2] for match in found if match}


def _functions(reader: LogReader, stream: str) -> list[str]:
    rows = reader.query(
        "SELECT proname, prosrc, prosecdef, lanname, array_to_string(proconfig, ';') FROM pg_proc "
        f"JOIN pg_language l ON l.oid = prolang WHERE pronamespace = {_HERE} ORDER BY proname",
        (stream,),
    )
    wanted = _sources(reader.schema)
    guarded = f"search_path={stream}, pg_temp" if reader.schema >= "0004" else None
    faults = [f"the function {name} is missing" for name in sorted(set(wanted) - {name for name, *_ in rows})]
    for name, source, as_owner, language, settings in rows:
        if name not in wanted:
            faults.append(f"the function {name} is not of Instar's making")
        elif (source, as_owner, language) != (wanted[name], name in _OF_OWNER, "plpgsql"):
            faults.append(f"the function {name} was altered")
        elif guarded and settings != guarded:
            faults.append(f"the function {name} does not look in the stream first")
    return faults


def _relations(reader: LogReader, stream: str) -> list[str]:
    rows = reader.query(
        "SELECT relname, relkind::text, CASE relkind WHEN 'v' THEN pg_get_viewdef(c.oid, true) END, relrowsecurity, "
        "(SELECT count(*) FROM pg_rewrite WHERE ev_class = c.oid AND rulename <> '_RETURN') FROM pg_class c "
        f"WHERE relnamespace = {_HERE} AND relkind NOT IN ('i', 't') ORDER BY relname",
        (stream,),
    )
    wanted = dict.fromkeys(_TABLES, "r") | ({"doomed": "v"} if reader.schema >= "0003" else {})
    kinds = {"r": "table", "v": "view"}
    there = {name: kind for name, kind, *_ in rows}
    faults = [f"the {kinds[wanted[name]]} {name} is missing" for name in sorted(set(wanted) - set(there))]
    for name, kind, view, secured, rules in rows:
        said = f"the {kinds.get(kind, 'relation')} {name}"
        if wanted.get(name) != kind:
            faults.append(f"{said} is not of Instar's making")
        # Older servers name the table before each column.
        elif view is not None and " ".join(view.replace("blobs.", "").split()) != _VIEW:
            faults.append(f"{said} was altered")
        elif secured or rules:
            faults.append(f"{said} has rules or policies that are not of Instar's making")
    return faults


def _rights(reader: LogReader, stream: str) -> list[str]:
    """Looks for rights beyond reading that anybody but the owner and the role that appends has."""
    given = (
        "SELECT relname AS name, a.* FROM pg_class, aclexplode(relacl) a "
        f"WHERE relnamespace = {_HERE} AND a.grantee <> relowner",
        "SELECT relname || ' (' || attname || ')', a.* FROM pg_class c JOIN pg_attribute ON attrelid = c.oid, "
        f"aclexplode(attacl) a WHERE relnamespace = {_HERE} AND a.grantee <> relowner",
        "SELECT 'the stream', a.* FROM pg_namespace, aclexplode(nspacl) a WHERE nspname = ? AND a.grantee <> nspowner",
        "SELECT proname || '()', a.* FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a "
        f"WHERE pronamespace = {_HERE} AND a.grantee <> proowner",
    )
    rows = reader.query(
        "SELECT name, coalesce(rolname::text, 'everybody'), privilege_type, is_grantable "
        f"FROM ({' UNION ALL '.join(given)}) AS given LEFT JOIN pg_roles r ON r.oid = grantee ORDER BY 1, 2, 3",
        (stream,) * len(given),
    )
    writer = f"{stream}{WRITER_SUFFIX}"
    more = {"blobs (content)": {"UPDATE"}, "the stream": {"USAGE"}} | _RIGHTS
    faults = []
    for name, role, right, passed_on in rows:
        may = more.get(name, set()) if role == writer else {"SELECT", "USAGE"}
        if (right not in may or passed_on) and not (name.endswith("()") and reader.schema < "0004"):
            faults.append(f"{role} has the right {right} on {name}, which Instar did not give")
    member = "SELECT 1 FROM pg_roles w JOIN pg_class ON relname = 'events' WHERE rolname = ? AND relnamespace = "
    if reader.query(f"{member}{_HERE} AND pg_has_role(w.oid, relowner, 'MEMBER')", (writer, stream)):
        faults.append(f"{writer} may act as the owner of the tables")
    return faults
