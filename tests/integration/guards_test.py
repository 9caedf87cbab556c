#!/usr/bin/env python3
"""The guards of a run from outside: skipped and rolled back steps give the same bits on any number of ranks
and after any interruption, NaN that stays ends the run with 79 on all ranks, and --replay tells right from wrong.

Usage: guards_test.py MHA2MLA_BINARY MPIEXEC SOURCE_DIR
"""
import json
import pathlib
import shutil
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "cli"))
import support

STEPS, BAD = 64, 52
# Every step reads one batch, which is soon known by heart; one step alone reads other ids.
CONFIG = """
general: {{project: test, run: guards, output_dir: {out}}}
model: {{init_from: {model}, dtype: float32}}
data_stages:
  - {{name: before, start_training_step: 1, data: {{dataset: {{dataset_folder: {one}}}}}}}
  - {{name: outlier, start_training_step: {bad}, data: {{dataset: {{dataset_folder: {other}}}}}}}
  - {{name: after, start_training_step: {after}, data: {{dataset: {{dataset_folder: {one}}}}}}}
tokens: {{sequence_length: 16, micro_batch_size: 2, global_batch_size: 8, train_steps: {steps}}}
optimizer: {{weight_decay: 0, learning_rate_scheduler: {{learning_rate: 1.0e-2}}}}
parallelism: {{threads_per_rank: 1, reduction_shards: 4}}
checkpoints: {{checkpoint_interval: 16, keep_last: 10, spike_z_score: 4, rollback_skip_steps: 2, replica_check_interval: 5}}
logging: {{iteration_step_info_interval: 1}}
"""


class Guards:
    def __init__(self, binary, mpiexec, source, folder):
        self.binary, self.mpiexec, self.folder = binary, mpiexec, folder
        self.out = folder / "runs"
        self.run_folder = self.out / "test/guards"
        one = support.write_shard(folder / "one.ds", count=8 * 17, seed=1)
        other = support.write_shard(folder / "other.ds", count=500, seed=2)
        self.model = source / support.MODEL
        self.config = folder / "guards.yaml"
        self.config.write_text(CONFIG.format(out=self.out, model=self.model, one=one, other=other, bad=BAD,
                                             after=BAD + 1, steps=STEPS))

    def train(self, ranks, *arguments):
        command = [*support.mpirun(ranks, self.mpiexec), self.binary, "train", self.config, "--json", *arguments]
        return support.run(command, timeout=300)

    def expect(self, code, done, *texts):
        assert done.returncode == code, f"expected exit code {code}, got {done.returncode}\n{done.stderr[-3000:]}"
        for text in texts:
            assert text in done.stderr, f"expected {text!r} in\n{done.stderr[-3000:]}"

    def state(self):
        """The bytes of the last checkpoint, and of each step what was logged."""
        folder = self.run_folder / f"checkpoints/step-{STEPS:09d}"
        state = json.loads((folder / "MANIFEST.json").read_text())["state"]
        del state["config"], state["config_xxh3_128"]  # which holds zero_stage
        lines = map(json.loads, (self.run_folder / "metrics.jsonl").read_text().splitlines())
        logged = [(m["step"], m.get("loss"), m.get("skipped")) for m in lines if m["type"] == "train"]
        return {p.name: p.read_bytes() for p in sorted(folder.glob("*.h5"))} | {"state": state, "logged": logged}

    def reset(self):
        shutil.rmtree(self.out, ignore_errors=True)

    def poisoned_model(self):
        """The model with one matrix at the edge of float32: finite, but no loss is."""
        target = self.folder / "poisoned"
        shutil.copytree(self.model, target)
        name = "model.layers.0.mlp.down_proj.weight"
        path = next(p for p in target.glob("*.safetensors") if name in support.read_safetensors(p)[0])
        header, data = support.read_safetensors(path)
        entry = header[name]
        begin, end = entry["data_offsets"]
        value = {"F32": struct.pack("<f", 3e38), "BF16": b"\x61\x7f"}[entry["dtype"]]
        content = bytearray(path.read_bytes())
        start = len(content) - len(data)
        content[start + begin:start + end] = value * ((end - begin) // len(value))
        path.write_bytes(content)
        return target


def check_any_ranks(guards, action, skipped):
    key = f"checkpoints.on_spike={action}"
    guards.expect(0, guards.train(1, key), f"step {BAD}: loss: ")
    want = guards.state()
    assert [step for step, _, was in want["logged"] if was] == skipped, want["logged"]
    assert [step for step, _, _ in want["logged"]] == list(range(1, STEPS + 1))
    guards.reset()
    guards.expect(0, guards.train(3, key))
    assert guards.state() == want, f"{action}: 3 ranks differ from 1"
    # As after kills: what is newer than one checkpoint is lost, before and after the bad step.
    for ranks, newest, zero_stage in ((2, 48, 0), (4, 16, 1)):
        (guards.run_folder / "result.json").unlink()
        for folder in guards.run_folder.glob("checkpoints/step-*"):
            if int(folder.name.removeprefix("step-")) > newest:
                shutil.rmtree(folder)
        stage = f"optimizer.zero_stage={zero_stage}"
        guards.expect(0, guards.train(ranks, key, stage), f"step {BAD}: loss: ")
        assert guards.state() == want, f"{action}: resumed from {newest} on {ranks} ranks differs"
    print(f"{action}: 1 and 3 ranks, and resumes on 2 and 4, agree bit for bit")


def check_replay(guards):
    done = guards.train(2, "checkpoints.on_spike=skip", "--replay", "20")
    guards.expect(0, done)
    assert json.loads(done.stdout) == {"step": 20, "from": 16, "steps_recomputed": 4, "equal": True,
                                       "first_difference": None}, done.stdout
    guards.expect(0, guards.train(1, "--replay", str(STEPS)), "and the checkpoint")
    metrics = guards.run_folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for line in lines:
        if line["type"] == "train" and line["step"] == 19:
            line["loss"] *= 1 + 2.0**-52
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = guards.train(2, "--replay", "20")
    guards.expect(87, done, "step 19: loss: expected ")
    assert json.loads(done.stdout)["first_difference"] == "step 19: loss", done.stdout
    guards.expect(64, guards.train(1, "--replay", "20", "--dry-run"))
    guards.expect(76, guards.train(1, "--replay", "3"))
    print("replay: an intact run is equal, one bit of one loss is exit code 87")


def check_nan(guards):
    """NU01 on several ranks."""
    poisoned = f"model.init_from={guards.poisoned_model()}"
    for action, text in (("stop", "step 1: error: "), ("skip", "steps 1 to 6: error: "),
                         ("rollback", "a checkpoint to go back to")):
        guards.reset()
        done = guards.train(3, poisoned, f"checkpoints.on_nan={action}")
        guards.expect(79, done, text)
        assert done.stderr.count(text) == 1, f"one message, not one per rank:\n{done.stderr}"
        assert not list(guards.run_folder.glob("checkpoints/step-*")), "nothing is saved of it"
    print("NaN: stop, skip and rollback end with 79 on all ranks")


def main():
    binary, mpiexec, source = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as temporary:
        guards = Guards(binary, mpiexec, source, pathlib.Path(temporary))
        check_any_ranks(guards, "rollback", [BAD - 1, BAD])
        guards.reset()
        check_any_ranks(guards, "skip", [BAD])
        check_replay(guards)
        check_nan(guards)


if __name__ == "__main__":
    main()
