#!/usr/bin/env python3
"""The whole program on a small model: any number of ranks, and any interruption, gives the same bits.

Usage: ranks_and_resume_test.py MHA2MLA_BINARY MPIEXEC SOURCE_DIR

Trains tests/data_files/llama-gqa-tied (2-norm, joint) on a small shard with 1, 2, 3 and 4 ranks, and in
pieces on 1, 2, 4, 3 and 1 ranks, and compares every .h5 file and the state of the last checkpoint byte for
byte; and the same with the optimizer state dealt to the ranks, and in pieces of both kinds.
"""
import json
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "cli"))
import support

STEPS = 6


class Runner:
    def __init__(self, binary, mpiexec, source, folder, dtype):
        self.binary, self.mpiexec, self.folder = binary, mpiexec, folder
        folder.mkdir()
        self.out = folder / "runs"
        shard = support.write_shard(folder / "train.ds")
        self.config = support.write_config(folder / "config.yaml", source, shard, self.out, dtype)

    def train(self, ranks, steps=STEPS, zero_stage=0, *arguments):
        command = [*support.mpirun(ranks, self.mpiexec), self.binary, "train", str(self.config),
                   f"tokens.train_steps={steps}", f"optimizer.zero_stage={zero_stage}", "--json", *arguments]
        done = support.run(command, timeout=300)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} returned {done.returncode}\n{done.stderr[-3000:]}")
        return json.loads(done.stdout)

    def checkpoint(self):
        """The bytes of all .h5 files and of the last checkpoint's state block, but for the configuration."""
        folder = self.out / "test/bits/checkpoints" / f"step-{STEPS:09d}"
        state = json.loads((folder / "MANIFEST.json").read_text())["state"]
        del state["config"], state["config_xxh3_128"]  # which holds zero_stage
        state = json.dumps(state, sort_keys=True)
        return {p.name: p.read_bytes() for p in sorted(folder.glob("*.h5"))} | {"state": state.encode()}

    def losses(self):
        lines = (self.out / "test/bits/metrics.jsonl").read_text().splitlines()
        return [(m["step"], m.get("loss", m.get("val_loss"))) for m in map(json.loads, lines) if m["type"] != "ckpt"]

    def require_seconds_of_all_starts(self, result):
        lines = [json.loads(line) for line in (self.out / "test/bits/metrics.jsonl").read_text().splitlines()]
        seconds = [line["wall_s"] for line in lines if "wall_s" in line]
        assert seconds == sorted(seconds) and result["seconds"] >= seconds[-1], (seconds, result)
        spent = sum(line["step_time_s"] * line["interval_steps"] for line in lines if line["type"] == "train")
        tokens = max(line["tokens"] for line in lines if line["type"] == "train")
        assert abs(result["tokens_per_second"] * spent / tokens - 1) < 1e-9, (result, spent, tokens)

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
            for ranks, until in ((1, 2), (2, 3), (4, 4), (3, 5), (1, 6)):
                result = runner.train(ranks, until)
            runner.require_seconds_of_all_starts(result)
            assert runner.checkpoint() == want, f"{dtype}: resuming on 1, 2, 4, 3 and 1 ranks gives other bits"
            for ranks in (2, 3):
                runner.reset()
                runner.train(ranks, STEPS, 1)
                assert runner.checkpoint() == want, f"{dtype}: zero_stage 1 on {ranks} ranks gives other bits"
                assert runner.losses() == losses, f"{dtype}: zero_stage 1 on {ranks} ranks logs other losses"
            replayed = runner.train(2, STEPS, 1, "--replay", str(STEPS))
            assert replayed["equal"], replayed
            runner.reset()
            for ranks, until, stage in ((2, 2, 1), (3, 3, 0), (4, 5, 1), (2, 6, 1)):
                runner.train(ranks, until, stage)
            assert runner.checkpoint() == want, f"{dtype}: resuming with zero_stage 1, 0, 1, 1 gives other bits"
            again = runner.train(2)
            assert again["steps"] == STEPS and runner.checkpoint() == want, "a finished run must stay as it is"
            print(f"{dtype}: 1, 2, 3, 4 ranks and 1 -> 2 -> 4 -> 3 -> 1 with resumes agree bit for bit, "
                  "with zero_stage 0 and 1")


if __name__ == "__main__":
    main()
