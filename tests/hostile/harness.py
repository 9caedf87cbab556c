"""Runs the catalogue of hostile inputs (docs/hostile_inputs.md) against the program.

A case makes its input in a folder of its own and returns the arguments of the program. Of a refusal it
is asserted: the exit code, one printable line that holds every part (file, field, expected, found), no
sign of a crash, at most 2 s of processor time and 512 MiB, and not one file changed, made or removed.

  NAME_test.py PROGRAM SOURCE_FOLDER [ID...]      VERBOSE=1 prints every message
"""
import os
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent.parent / "cli"))
import support
from support import BAD_CONFIG, BAD_DATA, IO, LOCKED, MISSING, OK, PERMISSION, USAGE

PROGRAM = Path(sys.argv[1]).resolve()
SOURCE = Path(sys.argv[2]).resolve()
MODEL = SOURCE / support.MODEL
TOKENIZER = SOURCE / "examples/tiny-llama/tokenizer.json"
CRASH = ["terminate called", "Segmentation", "Aborted", "Sanitizer", "runtime error", "HDF5-DIAG"]
MAX_SECONDS, MAX_MIB = 2, 512
SANITIZED = b"__asan_init" in PROGRAM.read_bytes()
CASES = {}


def case(name, code, *parts):
    """Registers a function (folder) -> arguments under an ID and a word: "ST01 empty"."""
    def register(make):
        assert name not in CASES, name
        CASES[name] = (code, parts, make)
        return make
    return register


def cases(prefix, code, inputs, make):
    """One case for every NAME: (input, *parts) of a table; make(folder, input) -> arguments."""
    for name, (value, *parts) in inputs.items():
        case(f"{prefix} {name}", code, *parts)(lambda folder, value=value: make(folder, value))


def scenario(name):
    """Registers a function (folder) that starts the program itself, more than once, and asserts."""
    def register(act):
        assert name not in CASES, name
        CASES[name] = act
        return act
    return register


class Skipped(Exception):
    """Raised by a scenario: this machine cannot do it, and why."""


def problems_of_scenario(act):
    with tempfile.TemporaryDirectory(prefix="mha2mla-hostile-") as text:
        try:
            act(Path(text))
        except AssertionError as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            return [f"line {line.lineno}: {line.line}", str(error)[-1500:]]
        except Skipped as reason:
            return str(reason)
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
    return []


def snapshot(folder):
    """What is in the folder: types, sizes, modification times; contents of small files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        small = path.is_file() and not path.is_symlink() and info.st_size < 1 << 20
        readable = small and os.access(path, os.R_OK)
        found[str(path.relative_to(folder))] = (info.st_mode, info.st_size, info.st_mtime_ns,
                                                path.read_bytes() if readable else None)
    return found


def run(arguments, folder):
    """(exit code, stdout, stderr, seconds of processor time, MiB at most)"""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen([str(a) for a in [PROGRAM, *arguments]], cwd=folder, stdout=out, stderr=err,
                                 stdin=subprocess.DEVNULL, env=support.environment(1))
        deadline = time.monotonic() + 100
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                child.kill()
            time.sleep(0.01)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        return (child.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace"),
                usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def problems_of(name):
    if callable(CASES[name]):
        return problems_of_scenario(CASES[name])
    code, parts, make = CASES[name]
    with tempfile.TemporaryDirectory(prefix="mha2mla-hostile-") as text:
        folder = Path(text)
        arguments = make(folder)
        before = snapshot(folder)
        got, out, err, seconds, mib = run(arguments, folder)
        after = snapshot(folder)
    if os.environ.get("VERBOSE"):
        print(f"{name} | {got} | {seconds:.2f} s | {err.strip()[:400]}")
    problems = [f"exit code {got}, not {code}"] if got != code else []
    lines = [line for line in err.splitlines() if "error:" in line]
    shown = lines[0] if lines else ""
    if code != OK:
        # A configuration tells all that is wrong, and counts it at the end.
        several = code == BAD_CONFIG and err.endswith(" errors; nothing was started.\n")
        if not several and (len(lines) != 1 or err.count("\n") != 1):
            problems.append("not one line of error")
        if before != after:
            problems.append(f"files changed: {sorted(set(before.items()) ^ set(after.items()))[:3]}")
        problems += [f'"{part}" is not in the message' for part in parts if part not in shown]
        if any(ord(c) < 32 or ord(c) == 127 for c in shown):
            problems.append("control characters in the message")
        if not SANITIZED and (seconds > MAX_SECONDS or mib > MAX_MIB):
            problems.append(f"took {seconds:.1f} s and {mib:.0f} MiB")
    else:
        problems += [f'"{part}" is not in the output' for part in parts if part not in out + err]
    problems += [f"sign of a crash: {sign}" for sign in CRASH if sign in out + err]
    return problems + ([f"stderr: {err.strip()[:600]}"] if problems else [])


def main():
    wanted = [name for name in CASES if not sys.argv[3:] or name.split()[0] in sys.argv[3:]]
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        results = list(pool.map(problems_of, wanted))
    for name, problems in zip(wanted, results):
        if isinstance(problems, str):
            print(f"skipped {name}: {problems}")
            continue
        print(f"{'FAIL' if problems else 'ok'} {name}")
        for problem in problems:
            print(f"     {problem}")
    skipped = sum(isinstance(problems, str) for problems in results)
    failed = sum(bool(problems) for problems in results) - skipped
    print(f"{len(wanted) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0 or not wanted)


def safetensors(header, data=b""):
    """The bytes of a file; `header` as an object, or as bytes that are taken as they are."""
    import json
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="U8", shape=(1,), begin=0, end=1):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def copy_model(folder, *leave_out, **settings):
    """A copy of the test model in folder/model, with changed settings in its config.json."""
    import json
    model = folder / "model"
    model.mkdir()
    config = json.loads((MODEL / "config.json").read_text()) | settings
    for key in leave_out:
        config.pop(key)
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").write_bytes((MODEL / "model.safetensors").read_bytes())
    return model


def evaluate(folder, model):
    support.write_shard(folder / "x.ds", count=64)
    return ["eval", model, "--data", "x.ds", "--sequence-length", "16", "--json"]
