"""Each sandbox that works here: a gate does what it needs in it, and nothing outside its copy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from instar.engine.sandbox import cgroup, choose, seccomp
from instar.engine.sandbox.bubblewrap import Bubblewrap
from instar.engine.sandbox.gate import Ran, run_gate
from instar.engine.sandbox.landlock import Landlock
from instar.engine.sandbox.port import Sandbox
from instar.engine.sandbox.trial import fault
from instar.engine.settings import MutationSettings
from instar.engine.workspace import Workspace
from instar.fsm.errors import ConfigError

CONFINING: list[Sandbox] = [Bubblewrap(), Landlock(namespaces=True), Landlock(namespaces=False)]
IDS = ["bubblewrap", "landlock-namespaces", "landlock"]


class Bench:
    """A workspace with a log and a secret, and a copy in which gates run."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root / "agent")
        self.copy = self.workspace.scratch / "mutation-1"
        self.folder, self.home = self.copy / "tree", self.copy / "home"
        self.folder.mkdir(parents=True)
        self.home.mkdir()
        self.workspace.log.write_text("the log")
        (root / "agent" / ".env").write_text("the secret")

    def runs(self, code: str, *arguments: object, **settings: object) -> Ran:
        return self.gate([sys.executable, "-c", code, *map(str, arguments)], **settings)

    def gate(self, command: list[str], **settings: object) -> Ran:
        chosen = msgspec.convert(settings, MutationSettings)
        return run_gate(command, folder=self.folder, home=self.home, workspace=self.workspace, settings=chosen)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path.resolve())


@pytest.fixture(params=CONFINING, ids=IDS)
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The one under test is the only one to choose from."""
    tried: Sandbox = request.param
    why = fault(tried, network=False)
    if why:
        pytest.skip(why)
    monkeypatch.setattr(choose, "STRONGEST_FIRST", (tried,))
    return tried


REFUSED = """
import os, sys
def refused(what, *how):
    try:
        what(*how)
    except OSError:
        return
    raise SystemExit(f'{how} was not refused')
root, home, tmp = sys.argv[1:]
for path in (root + '/.instar/log.db', root + '/.env', home, '/etc/shadow'):
    refused(open, path)
for path in (root + '/x', root + '/.instar/x', tmp + '/x', '/usr/x', '/etc/x', '/x'):
    refused(open, path, 'w')
refused(os.truncate, root + '/.instar/log.db', 0)
refused(os.listdir, root + '/.instar/blobs')
refused(os.rename, 'mine', tmp + '/mine')
"""


def test_gate_reads_and_writes_nothing_outside(bench: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    (bench.folder / "mine").write_text("x")
    (bench.workspace.home / "blobs").mkdir()
    secret = tmp_path / "home" / ".ssh"
    secret.mkdir(parents=True)
    (secret / "id").write_text("key")
    ran = bench.runs(REFUSED, bench.workspace.root, secret / "id", tmp_path)
    assert ran.captured.passed, ran.captured.tail()
    assert bench.workspace.log.read_text() == "the log"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent", "home"]


def test_gate_changes_no_mode_of_a_file_outside(bench: Bench, sandbox: Sandbox) -> None:
    if sandbox is CONFINING[2]:
        pytest.skip("Landlock alone guards no modes (docs/security.md)")
    ours = bench.workspace.root / ".env"
    before = ours.stat()
    bench.runs("import os, sys; os.chmod('.', 0o755); os.chmod(sys.argv[1], 0o777)", ours)
    bench.runs("import os, sys; os.utime(sys.argv[1], (1, 1))", ours)
    assert (ours.stat().st_mode, ours.stat().st_mtime) == (before.st_mode, before.st_mtime)
    assert bench.folder.stat().st_mode & 0o777 == 0o755


WORKS = """
import json, multiprocessing, os, pathlib, ssl, subprocess, sys, tempfile, threading, unittest
pathlib.Path('written').write_text('x')
pathlib.Path('sub').mkdir(); os.rename('written', 'sub/written')
with tempfile.NamedTemporaryFile() as file:
    file.write(b'x')
assert subprocess.check_output(['sh', '-c', 'echo out']) == b'out\\n'
assert subprocess.run([sys.executable, '-c', 'import msgspec']).returncode == 0
open('/dev/null', 'w').write('x'); open('/dev/urandom', 'rb').read(4)
threading.Thread(target=print).start()
assert os.getcwd() == sys.argv[1] and os.environ['HOME'] == os.environ['TMPDIR']
"""


def test_gate_does_what_it_needs(bench: Bench, sandbox: Sandbox) -> None:
    ran = bench.runs(WORKS, bench.folder)
    assert ran.captured.passed, ran.captured.tail()
    assert (bench.folder / "sub" / "written").read_text() == "x"


def test_gates_of_projects_run(bench: Bench, sandbox: Sandbox) -> None:
    (bench.folder / "test_a.py").write_text(
        "import unittest\nclass A(unittest.TestCase):\n    def test_a(self):\n        import multiprocessing.dummy\n"
    )
    script = bench.folder / "check.sh"
    script.write_text("#!/bin/sh\nexit 7\n")
    script.chmod(0o755)
    assert bench.gate([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]).captured.passed
    assert bench.gate([sys.executable, "-m", "unittest"]).captured.passed
    assert bench.gate(["./check.sh"]).captured.exit_code == 7


def test_shared_memory_is_there_and_its_own(bench: Bench, sandbox: Sandbox) -> None:
    if "ns" not in sandbox.enforced(msgspec.convert({}, MutationSettings)) and sandbox.name == "landlock":  # type: ignore[arg-type]
        pytest.skip("without namespaces there is no shared memory of its own")
    name = Path(f"/dev/shm/instar-{os.getpid()}")
    ran = bench.runs(
        "import multiprocessing, sys; multiprocessing.Lock(); multiprocessing.Queue(); open(sys.argv[1], 'w')", name
    )
    assert ran.captured.passed, ran.captured.tail()
    assert not name.exists()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name, as an address of a socket must be."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


CONNECTS = """
import socket, sys
for family, address in ((socket.AF_INET, ('127.0.0.1', int(sys.argv[1]))), (socket.AF_UNIX, sys.argv[2])):
    try:
        socket.socket(family).connect(address)
    except OSError:
        continue
    raise SystemExit(f'{address} was reached')
"""


def test_gate_reaches_no_service_unless_the_network_is_open(bench: Bench, sandbox: Sandbox, place: Path) -> None:
    path = str(place / "socket")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(path)
        local.listen()
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(path)
        port = tcp.getsockname()[1]
        closed = bench.runs(CONNECTS, port, path)
        assert closed.captured.passed, closed.captured.tail()
        opened = bench.runs(f"import socket; socket.create_connection(('127.0.0.1', {port}))", network=True)
        assert opened.captured.passed, opened.captured.tail()
        assert "network" in opened.sandbox


ATTACKS = """
import ctypes, os, signal, sys
pid, libc = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
for number in (0, signal.SIGKILL):
    try:
        os.kill(pid, number)
    except OSError:
        continue
    raise SystemExit('it was signalled')
assert libc.ptrace(16, pid, None, None) == -1, 'it was traced'
assert libc.unshare(0x10000000) == -1, 'a user namespace was made'
assert libc.mount(b'none', b'/', b'tmpfs', 0, None) == -1, 'a file system was mounted'
assert 'CapEff:\\t0000000000000000' in open('/proc/self/status').read()
"""


def test_gate_neither_ends_nor_traces_a_process_outside(bench: Bench, sandbox: Sandbox) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        ran = bench.runs(ATTACKS, other.pid)
        assert ran.captured.passed, ran.captured.tail()
        assert other.poll() is None
        other.kill()


def alive(mark: str) -> list[int]:
    """The processes that have a mark among their arguments."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


LEAVES = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(50)', {mark!r}]"
)
LEAVES += ", start_new_session=True); print('said', flush=True); {then}"


@pytest.mark.parametrize("then", ["", "time.sleep(50)"])
def test_nothing_of_a_gate_is_left(bench: Bench, sandbox: Sandbox, then: str) -> None:
    if sandbox is CONFINING[2] and not cgroup.available():
        pytest.skip("without namespaces and a control group a process that leaves its group lives on")
    mark = f"instar-left-{os.getpid()}-{time.monotonic_ns()}"
    for timeout_s in (1.0, 8.0) if then else (30.0,):
        ran = bench.runs(LEAVES.format(mark=mark, then=then), timeout_s=timeout_s)
        if ran.captured.output:  # else it did not come so far on a busy machine
            break
    assert ran.captured.timed_out is bool(then)
    assert ran.captured.exit_code == (124 if then else 0)
    assert ran.captured.output.startswith(b"said\n")
    deadline = time.monotonic() + 20
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(mark)


def test_number_of_processes_is_bounded(bench: Bench, sandbox: Sandbox) -> None:
    if os.getuid() == 0 and not cgroup.available():
        pytest.skip("root is bounded by a control group alone, and none can be made here")
    if sandbox is CONFINING[2] and not cgroup.available():
        pytest.skip("without a namespace a control group is what counts")
    code = "import os, time\nfor _ in range(100):\n    if not os.fork():\n        time.sleep(20)\n        os._exit(0)"
    ran = bench.runs(code, processes=24)
    assert b"BlockingIOError" in ran.captured.output


@pytest.mark.parametrize(("code", "told"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_how_a_gate_ends_comes_through(bench: Bench, sandbox: Sandbox, code: str, told: int) -> None:
    assert bench.runs(code).captured.exit_code == told


def test_gate_that_cannot_be_run_says_so(bench: Bench, sandbox: Sandbox) -> None:
    with pytest.raises(ConfigError, match="there is no such program"):
        bench.gate(["no-such-program"])
    (bench.folder / "plain").write_text("x")
    ran = bench.gate(["./plain"])
    assert (ran.captured.exit_code, ran.captured.tail()) == (126, "'./plain' cannot be run: Permission denied")


def test_name_says_what_is_in_force(bench: Bench, sandbox: Sandbox) -> None:
    parts = bench.runs("").sandbox.split("+")
    assert parts[0].rstrip("0123456789") == sandbox.name
    assert "rlimits" in parts
    assert ("seccomp" in parts) is (seccomp.fault() is None)
    assert ("cgroup" in parts) is cgroup.available()


def test_size_of_a_file_is_bounded(bench: Bench) -> None:
    ran = bench.runs("open('big', 'wb').write(bytes(3 << 20))", file_bytes=1 << 20, sandbox="rlimits")
    assert b"File too large" in ran.captured.output
    assert ran.sandbox.removesuffix("+cgroup") == "rlimits"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_is_a_program_that_ends(machine: str) -> None:
    """Each jump of it leads to a line of it, and its last line is a return."""
    import struct

    made = seccomp.program((*seccomp.LOCAL, *seccomp.ABROAD), machine)
    lines = list(struct.iter_unpack("=HBBI", made))
    for place, (code, if_true, if_false, _) in enumerate(lines):
        if code & 0x07 == 0x05:
            assert place + 1 + max(if_true, if_false) < len(lines)
    assert lines[-1][0] == 0x06
