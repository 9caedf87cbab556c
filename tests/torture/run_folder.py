"""What a run has left on disk: acknowledged checkpoints, metrics, leftovers; and how to damage it."""
import json
import pathlib
import re
import shutil

ACKNOWLEDGED = re.compile(r"ckpt committed step=(\d+) manifest=(\w+)")
RESUMED = re.compile(r"resumed from .*/step-(\d+)")


class RunFolder:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.checkpoints = self.path / "checkpoints"

    def steps(self):
        return sorted(int(p.name[5:]) for p in self.checkpoints.glob("step-*"))

    def checkpoint(self, step):
        return self.checkpoints / f"step-{step:09d}"

    def is_saving(self):
        """Evidence of a save that was cut short."""
        return any(self.checkpoints.glob(".tmp-*")) or any(self.checkpoints.glob(".trash-*"))

    def leftovers(self):
        return sorted(p.name for p in self.path.rglob("*") if p.name.startswith((".tmp-", ".trash-")) or
                      ".tmp" in p.suffixes)

    def status(self):
        try:
            return json.loads((self.path / "status.json").read_text())
        except (OSError, ValueError):
            return {}

    def state(self, step):
        """The bytes that must not depend on what happened: all tensors and the state block."""
        folder = self.checkpoint(step)
        state = json.loads((folder / "MANIFEST.json").read_text())["state"]
        return {p.name: p.read_bytes() for p in sorted(folder.glob("*.h5"))} | {"state": json.dumps(state, sort_keys=True)}

    def metrics(self):
        """(step, type, loss) of every line but those of checkpoints, by step: a validation that a stop cut
        short comes after the line of its step."""
        lines = (self.path / "metrics.jsonl").read_text().splitlines()
        return sorted((m["step"], m["type"], m.get("loss", m.get("val_loss"))) for m in map(json.loads, lines)
                      if m["type"] != "ckpt")

    def corrupt(self, rng):
        """Damages the newest checkpoint; says how."""
        folder = self.checkpoint(self.steps()[-1])
        file = rng.choice(sorted(p for p in folder.iterdir() if p.suffix in (".h5", ".json")))
        how = rng.choice(["flip", "truncate", "remove manifest", "remove file", "empty file"])
        if how == "flip":
            content = bytearray(file.read_bytes())
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            file.write_bytes(content)
        elif how == "truncate":
            with open(file, "r+b") as handle:
                handle.truncate(rng.randrange(file.stat().st_size))
        elif how == "remove manifest":
            (folder / "MANIFEST.json").unlink()
        elif how == "remove file":
            file.unlink()
        else:
            file.write_bytes(b"")
        return f"{how} {file.name}"

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)
