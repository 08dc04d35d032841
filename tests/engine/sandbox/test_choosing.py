"""Which sandbox is used, and what is refused where there is none."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import pytest

from instar.engine.doctor import examine
from instar.engine.loop import Loop
from instar.engine.runtime import Runtime
from instar.engine.sandbox.choose import chosen, unconfined
from instar.engine.sandbox.places import around, public, without_own
from instar.engine.sandbox.rlimits import Rlimits
from instar.engine.settings import MutationSettings, load_settings
from instar.engine.tool_executor import execute
from instar.fsm.errors import ConfigError
from instar.fsm.events import MutationRejected
from tests.engine.agents import code_only

LIMITS_ALONE = MutationSettings(sandbox="rlimits")


class Lent(Rlimits):
    """Somebody else's sandbox."""

    name = "lent"


class Broken(Rlimits):
    name = "broken"

    def fault(self, network: bool) -> str | None:
        return "its licence ran out"


def test_named_sandbox_is_taken() -> None:
    assert chosen(LIMITS_ALONE).name == "rlimits"


def test_sandbox_of_another_package_is_tried_as_ours_are() -> None:
    for made, told in ((Lent, "a file outside could be read"), (Broken, "its licence ran out")):
        with pytest.raises(ConfigError, match=told):
            chosen(MutationSettings(sandbox=f"{__name__}:{made.__name__}"))


def test_sandbox_that_a_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt install bubblewrap"):
        chosen(MutationSettings(sandbox="bubblewrap"))
    with pytest.raises(ConfigError, match="nothing is called 'jail'"):
        chosen(MutationSettings(sandbox="jail"))


@pytest.mark.parametrize(
    ("source", "refused"), [("llm", True), ("llm:some-model", True), ("mcp", True), ("cli", False), ("llmx", False)]
)
def test_patch_of_an_llm_is_refused_without_a_sandbox(source: str, refused: bool) -> None:
    assert bool(unconfined(LIMITS_ALONE, source)) is refused
    assert unconfined(MutationSettings(sandbox="rlimits", unconfined=True), source) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")
def test_refusal_is_recorded_and_nothing_runs(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    (tmp_path / "agent" / "instar.toml").write_text('[mutation]\nsandbox = "rlimits"\n')
    runtime = Runtime(tmp_path / "agent", actor="test")
    patch = "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n"
    execute(runtime, {"type": "mutate", "patch": patch, "gate": ["true"]}, source="llm:some-model")
    loop = Loop(runtime)
    while loop.step():
        pass
    (record,) = runtime.reader.tail(1, [MutationRejected])
    assert isinstance(record.event, MutationRejected)
    assert record.event.reason.startswith("llm:some-model wrote the patch, and only rlimits hold its gate here")
    assert (record.event.exit_code, record.event.sandbox) == (None, "none")
    (told,) = [finding for finding in examine(runtime.workspace) if finding.subject == "sandbox"]
    assert told.level == "note"
    assert told.text.startswith("rlimits")
    assert "mutation.sandbox is 'rlimits'" in told.text or "not installed" in told.text
    runtime.close()


def test_what_only_some_may_read_is_left_out(tmp_path: Path) -> None:
    for name, mode in (("a/open", 0o644), ("a/closed", 0o600), ("b/open", 0o644)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(mode)
    (tmp_path / "link").symlink_to("a/closed")
    found = {str(path.relative_to(tmp_path)) for path in public(tmp_path)}
    assert found == {"a/open", "b", "link"}


def test_log_of_another_workspace_is_left_out(tmp_path: Path) -> None:
    assert without_own(tmp_path) == [tmp_path]
    (tmp_path / ".instar").mkdir()
    (tmp_path / "src").mkdir()
    assert without_own(tmp_path) == [tmp_path / "src"]


def test_workspace_is_left_out_of_what_holds_it(tmp_path: Path) -> None:
    for name in ("usr/bin", "usr/src/app", "usr/src/other"):
        (tmp_path / name).mkdir(parents=True)
    assert around(tmp_path / "usr/bin", tmp_path / "usr/src/app") == [tmp_path / "usr/bin"]
    assert around(tmp_path, tmp_path / "usr/src/app") == [tmp_path / "usr/bin", tmp_path / "usr/src/other"]


@pytest.mark.parametrize(
    ("key", "place", "told"),
    [
        ("writable", ".", "mutation.writable names '.', which is, holds or lies in the workspace"),
        ("writable", "data", "in the workspace"),
        ("writable", "..", "in the workspace"),
        ("writable", "../link/scratch", "in the workspace"),
        ("writable", ".instar/scratch", "in the workspace"),
        ("readable", ".", "mutation.readable names '.', which would show a gate .instar"),
        ("readable", "/", "would show a gate .instar"),
        ("readable", "../link", "would show a gate .instar"),
        ("readable", ".instar/blobs", "would show a gate .instar"),
        ("readable", "data", None),
        ("writable", "../shared", None),
    ],
)
def test_setting_that_opens_the_workspace_is_refused(tmp_path: Path, key: str, place: str, told: str | None) -> None:
    root = tmp_path / "agent"
    (root / ".instar").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root / ".instar")
    (root / "instar.toml").write_text(f"[mutation]\n{key} = [{place!r}]\n")
    if told is None:
        load_settings(root)
    else:
        with pytest.raises(ConfigError, match=re.escape(told)):
            load_settings(root)


def test_defaults_ask_for_the_strongest_without_a_network() -> None:
    settings = msgspec.to_builtins(MutationSettings())
    assert (settings["sandbox"], settings["network"], settings["unconfined"]) == ("auto", False, False)
