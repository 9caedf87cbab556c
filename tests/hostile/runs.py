"""A small training run to damage, for scenarios: checkpoints of steps 2, 4 and 6, and what it wrote."""
import functools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from harness import CRASH, PROGRAM, SOURCE, support
from support import NO_CHECKPOINT, NUMERICAL, PREEMPTED

RUN = Path("runs/test/bits")
OS_LIMIT, OUT_OF_MEMORY = 71, 80


def prepare(folder):
    """run.yaml with relative paths, and the shard that it names."""
    support.write_shard(folder / "train.ds")
    support.write_config(folder / "run.yaml", SOURCE, "train.ds", "runs")


_one_maker = threading.Lock()  # scenarios run side by side


def template():
    """The folder of the run that scenarios copy; whoever comes first trains it, the others wait."""
    with _one_maker:
        return Path(_made_once().name)


@functools.cache
def _made_once():
    temporary = tempfile.TemporaryDirectory(prefix="mha2mla-template-")
    folder = Path(temporary.name)
    prepare(folder)
    done = train(folder)
    assert done.returncode == 0, done.stderr
    return temporary  # the object, not its name: the folder goes when it does


def trained(folder):
    """A finished run in `folder`; returns its folder of checkpoints."""
    shutil.copytree(template(), folder, dirs_exist_ok=True)
    (folder / RUN / "result.json").unlink()  # with it a run of no more steps has nothing to do
    return folder / RUN / "checkpoints"


def start(folder, command, *, ranks=0, environment=None, **options):
    launcher = support.mpirun(ranks) if ranks else []
    return subprocess.Popen([str(word) for word in [*launcher, *command]], cwd=folder, text=True,
                            env=support.environment(1) | (environment or {}),
                            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options)


def end(process, timeout=60):
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out or "", err or "")


def train(folder, *overrides, **options):
    return end(start(folder, [PROGRAM, "train", "run.yaml", *overrides], **options))


def expect(done, code, *parts):
    """The exit code; of a refusal one line that holds every part, else output that does; no crash."""
    text = f"exit code {done.returncode}\n{done.stdout[-800:]}\n{done.stderr}"
    assert done.returncode == code, text
    lines = [line for line in done.stderr.splitlines() if "error:" in line and not line.startswith("warning:")]
    assert code == 0 or len(lines) == 1, text
    where = done.stdout + done.stderr if code == 0 else lines[0]
    for part in parts:
        assert part in where, f"{part!r} is not in the message\n{text}"
    for sign in CRASH:
        assert sign not in done.stdout + done.stderr, text
    if os.environ.get("VERBOSE"):
        print(code, lines, flush=True)
    return done


def steps(checkpoints):
    return sorted(int(path.name[5:]) for path in checkpoints.glob("step-*"))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def final_state(checkpoints):
    """What must be the same whatever happened on the way: the bytes of step 6, without provenance."""
    folder = checkpoints / "step-000000006"
    state = json.loads((folder / "MANIFEST.json").read_text())["state"]
    state.pop("config"), state.pop("config_xxh3_128")  # which holds paths
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.h5"))} | {"state": state}


def intact():
    return final_state(template() / RUN / "checkpoints")
