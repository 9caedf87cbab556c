"""Command lines and configurations that cannot be, told in one line, and nothing is left half-written.

  wrong_configuration_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import sys
import unittest

sys.dont_write_bytecode = True
import support
from wrong_input import MODEL, USAGE, MISSING, BAD_CONFIG, WrongInput, refused


class CommandLine(WrongInput):
    @refused(USAGE, "verb: expected", "train", 'got "trian"', "did you mean train?")
    def test_unknown_verb(self):
        return ["trian", "run.yaml"]

    @refused(USAGE, "mha2mla eval: error:", "--max-window: unknown option", "did you mean --max-windows?")
    def test_unknown_flag(self):
        return self.eval(MODEL, "--max-window", "3")


class Configuration(WrongInput):
    @refused(BAD_CONFIG, "run.yaml:10:", "tokens.train_step: expected a key",
             "did you mean 'tokens.train_steps'?")
    def test_misspelt_key(self):
        self.config.write_text(self.config.read_text().replace("train_steps", "train_step"))
        return ["train", self.config]

    @refused(MISSING, "absent.yaml", "expected an existing file", "No such file", "check the path")
    def test_no_configuration(self):
        return ["train", "absent.yaml"]

    @refused(MISSING, "absent: error: MODEL: expected config.json with *.safetensors", "got nothing",
             "give the folder")
    def test_no_model(self):
        return ["train", self.config, "model.init_from=absent"]

    @refused(MISSING, "train.ds: error: dataset: expected a .ds file", "got nothing", "mha2mla tokenize")
    def test_no_shard(self):
        self.shard.unlink()
        return ["train", self.config]

    @refused(BAD_CONFIG, "run.yaml: error: mla.latent.latent_dims_per_kv_head: expected 1 to 20, got 1000")
    def test_latent_out_of_range(self):
        return ["train", self.config, "mla.latent.latent_dims_per_kv_head=1000"]

    @refused(BAD_CONFIG, "run.yaml: error: mla.rope.rope_pairs_per_head: expected 1 to 6", "got 7")
    def test_pairs_out_of_range(self):
        return ["train", self.config, "mla.rope.rope_pairs_per_head=7"]

    @refused(BAD_CONFIG, "run.yaml: error: mla.rope.rope_pairs_per_head: expected a divisor of 6", "uniform",
             "got 4")
    def test_pairs_that_do_not_divide(self):
        return ["train", self.config, "mla.rope.strategy=uniform", "mla.rope.rope_pairs_per_head=4"]

    @refused(BAD_CONFIG, "run.yaml: error: mla.rope.uniform_start: expected 0 to 2, got 3")
    def test_uniform_start_out_of_range(self):
        return ["train", self.config, "mla.rope.strategy=uniform", "mla.rope.uniform_start=3"]

    @refused(BAD_CONFIG, "mla.latent.method: expected joint or none with mla.rope.strategy full, got split")
    def test_split_with_full(self):
        return ["train", self.config, "mla.rope.strategy=full", "mla.latent.method=split"]

    def test_more_ranks_than_shards_of_the_gradient(self):
        done = self.run_program("train", self.config, "parallelism.reduction_shards=2",
                                launcher=support.mpirun(4))
        self.assert_refused(done, BAD_CONFIG, ["run.yaml: error: parallelism.reduction_shards: expected",
                                               "ranks, 4, got 2", "at most 2 ranks"])
        self.assertFalse((self.folder / "runs").exists())


class Conversion(WrongInput):
    @refused(BAD_CONFIG, "latent_dims_per_kv_head: expected 1 to 20, got 1000")
    def test_latent_out_of_range(self):
        return self.convert("--rope", "high", "--rope-pairs", "2", "--latent-dims", "1000")

    @refused(BAD_CONFIG, "rope_pairs_per_head: expected 1 to 6", "got 7")
    def test_pairs_out_of_range(self):
        return self.convert("--rope", "high", "--rope-pairs", "7", "--latent-dims", "5")

    @refused(BAD_CONFIG, "rope_pairs_per_head: expected a divisor of 6", "uniform", "got 4")
    def test_pairs_that_do_not_divide(self):
        return self.convert("--rope", "uniform", "--rope-pairs", "4", "--latent-dims", "5")

    @refused(BAD_CONFIG, "uniform_start: expected 0 to 2, got 3")
    def test_uniform_start_out_of_range(self):
        return self.convert("--rope", "uniform", "--rope-pairs", "2", "--uniform-start", "3",
                            "--latent-dims", "5")

    @refused(BAD_CONFIG, "latent.method: expected joint or none", "got split", "full")
    def test_split_with_full(self):
        return self.convert("--rope", "full", "--latent", "split", "--latent-dims", "5")

    @refused(BAD_CONFIG, "rope.strategy: expected calibration statistics with 2-norm, got none", "--stats")
    def test_two_norm_without_calibration(self):
        return self.convert("--rope", "2-norm", "--rope-pairs", "2", "--latent-dims", "5")

    @refused(BAD_CONFIG, "stats.safetensors: error: model_hash: expected", "(this model), got",
             "mha2mla calibrate")
    def test_statistics_of_another_model(self):
        other = self.damaged_model(lambda header, data: (header, bytes([data[0] ^ 1]) + data[1:]))
        done = self.run_program("calibrate", other, "--data", self.shard, "--sequence-length", "16",
                                "--max-windows", "8", "--out", "stats.safetensors")
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.convert("--rope", "2-norm", "--rope-pairs", "2", "--latent-dims", "5", "--stats",
                            "stats.safetensors")


if __name__ == "__main__":
    unittest.main(verbosity=2)  # which tells why a case was skipped
