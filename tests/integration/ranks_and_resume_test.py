#!/usr/bin/env python3
"""The whole program on a small model: any number of ranks, and any interruption, gives the same bits.

Usage: ranks_and_resume_test.py MHA2MLA_BINARY MPIEXEC SOURCE_DIR

Trains tests/data_files/llama-gqa-tied (2-norm, joint) on a small shard with 1, 2, 3 and 4 ranks, and in
pieces on 2, 1 and 4 ranks, and compares every .h5 file and the state block of the last checkpoint byte
for byte.
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

STEPS = 6
CONFIG = """
general: {{project: test, run: bits, output_dir: {out}}}
model: {{init_from: {model}, dtype: {dtype}}}
mla:
  rope: {{strategy: 2-norm, rope_pairs_per_head: 2}}
  latent: {{method: joint, latent_dims_per_kv_head: 5}}
  calibration: {{windows: 8}}
data_stages: [{{name: main, data: {{dataset: {{dataset_folder: {shard}}}}}}}]
validation: {{sets: {{train: {shard}}}, windows_per_set: 5}}
tokens: {{sequence_length: 16, micro_batch_size: 2, global_batch_size: 8, train_steps: 6, val_check_interval: 2}}
optimizer: {{learning_rate_scheduler: {{learning_rate: 1.0e-3}}}}
parallelism: {{threads_per_rank: 1, reduction_shards: 4}}
checkpoints: {{checkpoint_interval: 2, keep_last: 10}}
"""


def write_shard(path, vocab, count):
    value, ids = 1, []
    for _ in range(count):
        value = (value * 1103515245 + 12345) % (1 << 31)
        ids.append((value >> 8) % vocab)
    path.write_bytes(struct.pack(f"<{count}H", *ids))


class Runner:
    def __init__(self, binary, mpiexec, source, folder, dtype):
        self.binary, self.mpiexec, self.folder = binary, mpiexec, folder
        folder.mkdir()
        write_shard(folder / "train.ds", 97, 3000)
        self.out = folder / "runs"
        self.config = folder / "config.yaml"
        self.config.write_text(CONFIG.format(out=self.out, model=source / "tests/data_files/llama-gqa-tied",
                                             shard=folder / "train.ds", dtype=dtype))

    def train(self, ranks, steps=STEPS):
        env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_mpi_yield_when_idle="1")
        command = [self.mpiexec, "--oversubscribe", "--bind-to", "none", "-np", str(ranks), self.binary, "train",
                   str(self.config), f"tokens.train_steps={steps}", "--json"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} returned {done.returncode}\n{done.stderr[-3000:]}")
        return json.loads(done.stdout)

    def checkpoint(self):
        """The bytes of all .h5 files and of the state block of the last checkpoint."""
        folder = self.out / "test/bits/checkpoints" / f"step-{STEPS:09d}"
        state = json.dumps(json.loads((folder / "MANIFEST.json").read_text())["state"], sort_keys=True)
        return {p.name: p.read_bytes() for p in sorted(folder.glob("*.h5"))} | {"state": state.encode()}

    def losses(self):
        lines = (self.out / "test/bits/metrics.jsonl").read_text().splitlines()
        return [(m["step"], m.get("loss", m.get("val_loss"))) for m in map(json.loads, lines) if m["type"] != "ckpt"]

    def reset(self):
        shutil.rmtree(self.out, ignore_errors=True)


def main():
    binary, mpiexec, source = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as temporary:
        for dtype in ("float32", "bfloat16"):
            runner = Runner(binary, mpiexec, source, pathlib.Path(temporary) / dtype, dtype)
            result = runner.train(1)
            want, losses = runner.checkpoint(), runner.losses()
            assert result["steps"] == STEPS and result["validation"]["source"], result
            assert len(want) == 2 and want["state"], "one state file and its manifest"
            for ranks in (2, 3, 4):
                runner.reset()
                runner.train(ranks)
                assert runner.checkpoint() == want, f"{dtype}: {ranks} ranks give other bits than 1"
                assert runner.losses() == losses, f"{dtype}: {ranks} ranks log other losses"
            runner.reset()
            for ranks, until in ((2, 2), (1, 4), (4, 6)):
                runner.train(ranks, until)
            assert runner.checkpoint() == want, f"{dtype}: resuming on 2, 1 and 4 ranks gives other bits"
            again = runner.train(2)
            assert again["steps"] == STEPS and runner.checkpoint() == want, "a finished run must stay as it is"
            print(f"{dtype}: 1, 2, 3, 4 ranks and 2 -> 1 -> 4 with resumes agree bit for bit")


if __name__ == "__main__":
    main()
