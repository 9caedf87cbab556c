"""Damaged models, exports that cannot be or were changed: told in one line, and nothing is left half-written.

  wrong_model_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import json
import sys
import unittest

sys.dont_write_bytecode = True
from wrong_input import (
    SOURCE, MODEL, USAGE, BAD_DATA, MISSING, LOCKED, BAD_CONFIG, flip_byte, WrongInput, refused)


class Export(WrongInput):
    """Out to Hugging Face folders, and in again."""

    def converted(self, *options):
        done = self.run_program(*self.convert(*options))
        self.assertEqual(done.returncode, 0, done.stderr)
        return "converted"

    def exported(self):
        """A folder of layout v1 whose pairs 2-norm chose."""
        model = self.converted("--rope-pairs", "2", "--latent-dims", "5", "--data", self.shard)
        done = self.run_program("export", model, "--layout", "v1", "--out", "hf")
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.folder / "hf"

    def change_config(self, folder, change):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
        return self.eval(folder)

    @refused(USAGE, "--layout: expected v1 or v2 with --format hf, got nothing")
    def test_no_layout(self):
        return ["export", MODEL, "--out", "hf"]

    @refused(USAGE, "--layout: expected nothing with --format dense, got v1")
    def test_layout_of_dense(self):
        return ["export", MODEL, "--format", "dense", "--layout", "v1", "--out", "hf"]

    @refused(LOCKED, "hf: error: --out: expected a new name, got one that exists")
    def test_existing_folder(self):
        (self.folder / "hf").mkdir()
        (self.folder / "hf/mine.txt").write_text("mine")
        return ["export", MODEL, "--format", "dense", "--out", "hf"]

    @refused(BAD_CONFIG, "llama-gqa-tied: error: model: expected a converted one for layout v2", "--format dense")
    def test_unconverted_as_hf(self):
        return ["export", MODEL, "--layout", "v2", "--out", "hf"]

    @refused(BAD_CONFIG, "converted: error: rotary pairs: expected 1 to 5 per head for layout v2, got 6",
             "layout v1 takes none and all")
    def test_full_rope_in_the_later_layout(self):
        model = self.converted("--rope", "full", "--latent-dims", "12")
        return ["export", model, "--layout", "v2", "--out", "hf"]

    @refused(BAD_CONFIG, "converted:layer 0: error: rotary pairs: expected all 6 of each head, got 2", "--format hf")
    def test_partial_rope_as_dense(self):
        model = self.converted("--rope", "high", "--rope-pairs", "2", "--latent-dims", "5")
        return ["export", model, "--format", "dense", "--out", "hf"]

    @refused(MISSING, "hf: error: qk_tensor_path: expected the file that chose the 2-norm pairs, in this folder",
             "no qk_tensor.pth", "copy the file")
    def test_no_file_of_pairs(self):
        folder = self.exported()
        (folder / "qk_tensor.pth").unlink()
        return self.change_config(folder, lambda config: config.pop("kept_pairs"))

    @refused(BAD_DATA, "qk_tensor.pth: error: 2-norm pairs: expected those of kept_pairs in config.json, got others")
    def test_pairs_that_disagree(self):
        def change(config):
            config["kept_pairs"][0][0] = "0,1" if config["kept_pairs"][0][0] != "0,1" else "0,2"
        return self.change_config(self.exported(), change)

    @refused(BAD_DATA, "config.json: error: kept_pairs: expected 2 ascending pairs below 6", 'got "1,0"')
    def test_pairs_that_descend(self):
        return self.change_config(self.exported(), lambda config: config["kept_pairs"][1].__setitem__(1, "1,0"))

    @refused(BAD_DATA, "qk_tensor.pth", "expected", "zip archive")
    def test_damaged_file_of_pairs(self):
        folder = self.exported()
        flip_byte(folder / "qk_tensor.pth")
        return self.eval(folder)

    @refused(BAD_DATA, "config.json: error: RoPE.partial_rope_version: expected 0 to 5, got 6")
    def test_unknown_strategy(self):
        return self.change_config(self.exported(), lambda config: config["RoPE"].update(partial_rope_version=6))

    @refused(BAD_DATA, "config.json: error: mha2mla.svd_init_method: expected joint, split or none, got only_key")
    def test_unknown_method(self):
        def change(config):
            del config["RoPE"], config["SVD"]
            config["mha2mla"] = {"partial_rope_version": "high", "rope_dim_for_mla": 4, "low_rank": 5,
                                 "svd_init_method": "only_key"}
        return self.change_config(self.exported(), change)

    @refused(BAD_DATA, "W_down_k.weight: error: shape: expected [12, 48], got [10, 48]")
    def test_latent_of_another_width(self):
        return self.change_config(self.exported(), lambda config: config["SVD"].update(low_rank=6))


class Models(WrongInput):
    @refused(MISSING, "absent", "expected", "got")
    def test_no_model(self):
        return self.eval("absent")

    @refused(BAD_DATA, "model: error: tensors: expected", "got missing", "model.layers.1.mlp.up_proj.weight")
    def test_missing_tensor(self):
        def remove(header, data):
            entry = header.pop("model.layers.1.mlp.up_proj.weight")
            begin, end = entry["data_offsets"]
            for other in header.values():
                offsets = other.get("data_offsets")
                if offsets and offsets[0] >= end:
                    other["data_offsets"] = [offset - (end - begin) for offset in offsets]
            return header, data[:begin] + data[end:]
        return self.eval(self.damaged_model(remove))

    @refused(BAD_DATA, "model.safetensors:byte ", "data section: expected 167040 bytes", "got 166040")
    def test_truncated(self):
        return self.eval(self.damaged_model(lambda header, data: (header, data[:-1000])))

    @refused(BAD_DATA, "model.safetensors:byte 0: error: header length: expected 2 to 492", "got")
    def test_truncated_header(self):
        model = self.copy_model()
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:500])
        return self.eval(model)

    @refused(BAD_DATA, "model.safetensors:model.", "data_offsets: expected begin", "got", "overlap")
    def test_overlapping_offsets(self):
        def overlap(header, data):
            by_place = sorted((entry["data_offsets"], name) for name, entry in header.items()
                              if name != "__metadata__")
            (begin, end), name = by_place[1]
            header[name]["data_offsets"] = [begin - 64, end - 64]
            return header, data
        return self.eval(self.damaged_model(overlap))

    @refused(BAD_DATA, "config.json: error: sliding_window: expected", "got 32")
    def test_sliding_window(self):
        return self.eval(self.model_with(architectures=["MistralForCausalLM"], model_type="mistral",
                                         sliding_window=32))

    @refused(BAD_DATA, "config.json", "rope_type", "expected default", "longrope")
    def test_rope_type(self):
        return self.eval(self.model_with(rope_scaling={"rope_type": "longrope", "factor": 4.0}))

    @refused(BAD_CONFIG, "mla.latent.method: expected none for a model with QK-norm, got joint")
    def test_qk_norm(self):
        return ["convert", SOURCE / "tests/data_files/qwen3", "--out", "converted", "--rope", "high",
                "--rope-pairs", "2", "--latent-dims", "8"]

    @refused(BAD_DATA, "model.safetensors", "model.norm.weight", "dtype: expected F32, BF16 or F16, got F8_E4M3")
    def test_dtype_that_weights_cannot_have(self):
        def shrink(header, data):
            entry = header["model.norm.weight"]  # the last one: 48 bytes instead of 192
            begin, end = entry["data_offsets"]
            self.assertEqual(end, len(data))
            entry |= {"dtype": "F8_E4M3", "data_offsets": [begin, begin + 48]}
            return header, data[:begin + 48]
        return self.eval(self.damaged_model(shrink))

    @refused(BAD_DATA, "model.safetensors", "model.norm.weight", "dtype: expected", 'got "F31"')
    def test_unknown_dtype(self):
        def rename(header, data):
            header["model.norm.weight"]["dtype"] = "F31"
            return header, data
        return self.eval(self.damaged_model(rename))


if __name__ == "__main__":
    unittest.main(verbosity=2)  # which tells why a case was skipped
