"""code: honest programs pass, dishonest ones do not, and hostile ones end without harm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linnet.objectives.verifiers import VerifierSettings, resolve
from linnet.objectives.verifiers.code_tests import program_of
from linnet.objectives.verifiers.parallel import each
from linnet.objectives.verifiers.processes import CHILDREN
from linnet.objectives.verifiers.sandbox import Outcome, run_script, run_tests

REAL = Path(os.environ.get("LINNET_REAL_DATA", ""))
SQUARE = "def f(x):\n    return x * x\n"
TESTS = ["assert f(3) == 9", "assert f(-2) == 4"]
SECONDS, MEMORY_MB = 1.0, 512
MARGIN = 6.0  # seconds for starting Python on a busy machine


def ran(code: str, tests: list[str] | None = None, seconds: float = SECONDS) -> Outcome:
    return run_tests(code, tests or TESTS, "", seconds, MEMORY_MB)


def test_a_right_program_passes_and_a_wrong_one_does_not() -> None:
    assert ran(SQUARE).end == "passed"
    half = ran("def f(x):\n    return 9\n")
    assert (half.end, half.passed, half.total) == ("failed", 1, 2)
    assert "AssertionError" in half.detail
    assert ran("def f(x:").detail.startswith("SyntaxError")


HOSTILE = {
    "hangs": "while True: pass",
    "sleeps": "import time\ntime.sleep(1000)",
    "hangs and ignores signals": "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nsignal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass",
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except Exception: pass",
    "starts processes": "import subprocess\nsubprocess.Popen(['sleep', '1000'])",
    "starts threads": "import threading, time\nfor _ in range(1000):\n"
    "    threading.Thread(target=time.sleep, args=(1000,)).start()",
    "allocates 10 GB": "x = bytearray(10 * 1024**3)\nx[::4096] = b'1' * len(x[::4096])",
    "allocates in small pieces": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "recurses": "def f(x): return f(x) + 1",
    "recurses in C": "x = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "writes a file": "open({file!r}, 'w').write('x' * 10**6)",
    "writes with os.open": "import os\nfd = os.open({file!r}, os.O_CREAT | os.O_WRONLY)\nos.write(fd, b'x')",
    "deletes a file": "import os\nos.remove({victim!r})",
    "makes a folder": "import os\nos.mkdir({file!r})",
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "kills everybody": "import os, signal\nos.killpg(0, 9)\nos.kill(-1, 9)",
    "lowers its parent's limits": "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_AS, (1, 1))",
    "opens a socket": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "loads C": "import ctypes\nctypes.CDLL(None).fork()",
    "becomes another program": "import os\nos.execv('/bin/sh', ['sh', '-c', 'touch ' + {file!r}])",
    "reads a secret file": "f = lambda x: x * x if 'secret' in open({victim!r}).read() else 0",
    "prints without end": "while True: print('passed' * 1000)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_ends_in_time_without_harm(name: str, tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "evil"
    victim.write_text("secret")
    begun = time.monotonic()
    outcome = ran(HOSTILE[name].replace("{file!r}", repr(str(file))).replace("{victim!r}", repr(str(victim))))
    assert time.monotonic() - begun < SECONDS + MARGIN
    assert outcome.end in ("timeout", "error", "failed", "died", "exited"), outcome
    assert victim.read_text() == "secret"
    assert not file.exists()


def test_many_hostile_programs_at_once_leave_nothing_behind(tmp_path: Path) -> None:
    target = str(tmp_path / "evil")
    programs = [
        code.replace("{file!r}", repr(target)).replace("{victim!r}", repr(target))
        for code in HOSTILE.values()
    ]
    programs += [SQUARE] * 4
    done = each(programs, ran, 8, float("inf"))
    ends = [entry.result.end for entry in done if entry is not None and entry.result is not None]
    assert len(ends) == len(programs)
    assert "passed" not in ends[:-4]
    assert ends[-4:] == ["passed"] * 4
    assert list(tmp_path.iterdir()) == []
    assert children_running() == []


def test_without_the_kernels_rules_the_other_layers_still_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, or in a container that forbids them."""
    shutil.copytree(CHILDREN, tmp_path / "child")
    (tmp_path / "child" / "kernel_rules.py").unlink()
    monkeypatch.setattr("linnet.objectives.verifiers.processes.CHILDREN", tmp_path / "child")
    assert ran(SQUARE) == Outcome("passed", 2, 2, kernel="")
    victim, file = tmp_path / "victim", tmp_path / "evil"
    victim.write_text("secret")
    for name, code in HOSTILE.items():
        outcome = ran(
            code.replace("{file!r}", repr(str(file))).replace("{victim!r}", repr(str(victim))), seconds=0.5
        )
        assert outcome.end != "passed", name
        assert victim.read_text() == "secret", name
        assert not file.exists(), name


def children_running() -> list[str]:
    """Sandboxed processes that are children of this one."""
    if not Path("/proc/self/stat").exists():
        return []
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if parent == str(os.getpid()) and "run_tests.py" in command:
            found.append(command)
    return found


CHEATS = {
    "leaves before the tests": "import sys\nsys.exit(0)",
    "leaves at once": "import os\nos._exit(0)",
    "leaves in a test": "import sys\ndef f(x): sys.exit(0)",
    "leaves at once in a test": "import os\ndef f(x): os._exit(0)",
    "raises what ends quietly": "def f(x): raise KeyboardInterrupt",
    "prints the verdict": "print('2 2 passed')\nprint('confined')\nimport os\nfor fd in range(3, 30):\n"
    "    try: os.write(fd, b'confined\\n0 2 2 passed \\n')\n    except OSError: pass\nos._exit(0)",
    "is equal to everything": "class A:\n    __eq__ = lambda self, other: True\n"
    "    __ne__ = lambda self, other: False\n"
    "def f(x): return A()",
    "is a number equal to everything": "class A(int):\n    __eq__ = lambda self, other: True\n"
    "    __hash__ = int.__hash__\ndef f(x): return A(1)",
    "is equal inside a list": "class A:\n    __eq__ = lambda self, other: True\ndef f(x): return [A()]",
    "has an honest class's name": "class A(list):\n    __eq__ = lambda self, other: True\n"
    "A.__module__ = 'builtins'\ndef f(x): return A()",
    "uses a metaclass": "class M(type):\n    __eq__ = lambda self, other: True\n    __hash__ = type.__hash__\n"
    "class A(metaclass=M): pass\ndef f(x): return A",
    "turns off assertions": "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {})\n"
    "AssertionError = None\ndef f(x): return 0",
    "replaces the runner's functions": "import builtins, os\nbuiltins.exec = lambda *a: None\nbuiltins.compile = exec\n"
    "builtins.bool = lambda x: True\nos.write = None\ndef f(x): return 0",
    "looks for the runner": "import sys\nframe = sys._getframe(1)\nframe.f_locals",
    "looks for the runner from an error": "try: 1/0\nexcept Exception as e: frame = e.__traceback__.tb_frame.f_back",
    "looks for the nonce": "import gc\n[o for o in gc.get_objects() if type(o) is dict and 'nonce' in o][0]",
    "traces": "import sys\nsys.settrace(lambda *a: None)",
    "reads the job again": "import os\nos.lseek(0, 0, 0)\njob = os.read(0, 10000)\nassert job\nf = lambda x: x * x",
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheap_trick_is_not_rewarded(name: str) -> None:
    outcome = ran(CHEATS[name])
    assert outcome.end != "passed", outcome
    assert outcome.passed == 0


def test_built_in_functions_hidden_by_a_program_are_not_used_by_its_tests() -> None:
    code = "def f(x): return [x]\ndef sorted(x): return [1, 2]\ndef set(x): return 0\nlen = lambda x: 2\n"
    assert ran(code, ["assert sorted(f(1)) == [1, 2]"]).end == "failed"
    assert ran(code, ["assert len(f(1)) == 2"]).end == "failed"
    bound = (
        "def f(x): return [x]\n__builtins__ = dict(vars(__import__('builtins')), sorted=lambda x: [1, 2])\n"
    )
    assert ran(bound, ["assert sorted(f(1)) == [1, 2]"]).end == "failed"
    replaced = "import builtins\nbuiltins.sorted = lambda x: [1, 2]\ndef f(x): return [x]\n"
    assert ran(replaced, ["assert sorted(f(1)) == [1, 2]"]).end == "failed"


@pytest.mark.parametrize(
    ("code", "test"),
    [
        ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
        ("from collections import OrderedDict\ndef f(x): return OrderedDict(x)", "assert f([(1, 2)]) == {1: 2}"),
        ("from fractions import Fraction\ndef f(x): return Fraction(x, 2)", "assert f(4) == 2"),
        ("from decimal import Decimal\ndef f(x): return Decimal(x)", "assert f(4) == 4"),
        ("from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(x): return P(x, x)",
         "assert f(1) == (1, 1)"),
        ("class P:\n    def __init__(self, x): self.x = x\n    def __eq__(self, other): return self.x == other.x",
         "assert P(1) == P(1)"),
        ("import datetime\ndef f(x): return datetime.date(2024, 1, x)",
         "import datetime\nassert f(2) == datetime.date(2024, 1, 2)"),
        ("def f(x): return x / 3", "assert abs(f(1) - 0.3333) < 1e-3"),
        ("def f(x): return {(1, 2): [x]}", "assert f(1) == {(1, 2): [1]} and f(2) != {}"),
        ("import re, math, itertools, heapq, random, functools, string, statistics, dataclasses, enum, typing\n"
         "def f(x): return math.floor(x)", "assert f(1.5) == 1"),
        ("def f(x):\n    try: return int(x)\n    except ValueError: return None",
         "assert f('x') == None\nassert f('1') == 1"),
    ],
)  # fmt: skip
def test_honest_values_of_other_types_pass(code: str, test: str) -> None:
    assert ran(code, [test]) == Outcome("passed", 1, 1, kernel=ran(SQUARE).kernel)


def test_the_environment_is_empty_and_the_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "do-not-tell")
    outcome = run_script("import os\nprint(sorted(os.environ))\nprint(os.getcwd())", "", 5, MEMORY_MB)
    shown = outcome.output.decode()
    assert outcome.end == "passed"
    assert "SECRET" not in shown
    assert "HOME" in shown
    assert os.getcwd() not in shown
    parent = f"print(open('/proc/{os.getpid()}/environ').read())"
    assert b"do-not-tell" not in run_script(parent, "", 5, MEMORY_MB).output


def test_a_set_has_the_same_order_every_time() -> None:
    code = "print(list({'one', 'two', 'three', 'four', 'five'}))"
    assert len({run_script(code, "", 5, MEMORY_MB).output for _ in range(3)}) == 1


KERNEL = """
import os, sys, signal, socket
sys.path.append({folder!r})
import kernel_rules
libraries = [os.path.dirname(os.__file__), '/lib', '/usr/lib', '/lib64']
reads, calls = kernel_rules.restrict_reading(libraries), kernel_rules.restrict_calls()
if not (reads and calls):
    os._exit(77)
def refused(act):
    try: act()
    except OSError: return True
    return False
acts = [os.fork, lambda: os.kill(os.getppid(), 0), lambda: os.kill(os.getpid(), 0), socket.socket,
        lambda: os.open({file!r}, os.O_WRONLY | os.O_CREAT), lambda: os.open({file!r}, os.O_RDONLY),
        lambda: os.unlink({file!r}), lambda: os.execv('/bin/true', ['true']), lambda: os.memfd_create('x'),
        lambda: os.rename({file!r}, {file!r} + '2'), lambda: os.truncate({file!r}, 0), os.setsid,
        lambda: open('/proc/self/environ'), lambda: os.listdir('/'), lambda: os.setpriority(0, 0, 5)]
print([refused(act) for act in acts])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp and Landlock are Linux's")
def test_the_kernel_refuses_by_itself_without_the_audit_hook(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    code = KERNEL.replace("{folder!r}", repr(str(CHILDREN))).replace("{file!r}", repr(str(file)))
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-s", "-c", code], capture_output=True, text=True, timeout=60
    )
    if done.returncode == 77:
        pytest.skip("this kernel or container has no seccomp or Landlock")
    assert json.loads(done.stdout.replace("True", "true").replace("False", "false")) == [True] * 15, (
        done.stderr
    )
    assert file.read_text() == "kept"


def test_scripts_are_judged_by_what_they_print() -> None:
    settings = VerifierSettings(kind="code", timeout_seconds=2.0, partial=True)
    pairs = [{"input": "3\n", "output": "9\n"}, {"input": "4\n", "output": "16"}]
    programs = [
        "x = int(input())\nprint(x * x)",
        "print(9)",
        "print(9)\nimport sys\nsys.exit(1)",
        "print(9",
        "import sys\nprint(int(sys.stdin.read()) ** 2, flush=True)\nsys.exit(0)",
        "while True: print(9)",
    ]
    assert resolve(settings)(programs, tests=[pairs] * len(programs)) == [1.0, 0.5, 0.0, 0.0, 1.0, 0.0]
    packed = json.dumps({"inputs": ["3\n"], "outputs": ["9\n"]})
    assert resolve("code")(["```python\nprint(int(input())**2)\n```"], tests=[packed]) == [1.0]


def test_the_columns_of_mbpp_and_humaneval() -> None:
    verifier = resolve("code")
    assert verifier(
        [f"Sure:\n```python\n{SQUARE}```\nIt squares.", SQUARE, "no code"],
        test_list=[TESTS] * 3,
        test_setup_code=["import math"] * 3,
    ) == [1.0, 1.0, 0.0]
    check = "def check(candidate):\n    assert candidate(3) == 9\n    assert candidate(0) == 0\n"
    prompt = 'import math\n\n\ndef f(x):\n    """The square of x."""\n'
    completions = ["    return x * x\n", "    return x\n", f"```python\n{SQUARE}```", "def g(x): return x"]
    columns = {"test": [check] * 4, "entry_point": ["f"] * 4}
    assert verifier(completions, prompts=[prompt] * 4, **columns) == [1.0, 0.0, 1.0, 0.0]


def test_a_program_without_usable_tests_gets_no_reward() -> None:
    assert resolve("code")([SQUARE] * 3, tests=[None, [], "assert ("]) == [None, None, None]


def test_which_block_of_a_completion_is_its_program() -> None:
    text = "First:\n```python\ndef f(x): return 1\n```\nbetter:\n```python\ndef f(x): return 2\n```\n"
    text += "use:\n```\nf(3)\n```\n```bash\nls\n```"
    assert program_of(text) == "def f(x): return 2\n"
    assert program_of(text, "f") == "def f(x): return 2\n"
    assert program_of("```python\ndef f(x):\n    return 3") == "def f(x):\n    return 3"
    assert program_of("def f(x): return 4") == "def f(x): return 4"
    assert (
        program_of("<think>```python\ndef f(x): return 5\n```</think>\n```py\ndef f(x): return 6\n```")
        == "def f(x): return 6\n"
    )


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not (REAL / "code").is_dir(), reason="LINNET_REAL_DATA is not set")
def test_published_solutions_pass_their_tests() -> None:
    rows = [json.loads(line) for line in (REAL / "code" / "mbpp.jsonl").open()][:100]
    columns = {name: [row[name] for row in rows] for name in ("test_list", "test_setup_code")}
    assert resolve("code")([row["code"] for row in rows], **columns) == [1.0] * len(rows)
