"""Texts to ids and back: encode, tokenize, inspect.

  text_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import json
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
from cli_case import DATA, TINY, BAD_DATA, MISSING, IO, PERMISSION, read_jsonl, CliTest


class Encode(CliTest):
    def test_reference_cases(self):
        for name in ["gpt2", "smollm"]:
            tokenizer = DATA / f"tokenizer-{name}"
            cases = read_jsonl(tokenizer / "cases.jsonl")
            result = self.run_json("encode", "--tokenizer", tokenizer, "--in",
                                   tokenizer / "cases.jsonl", "--out", f"{name}.jsonl")
            lines = read_jsonl(self.folder / f"{name}.jsonl")
            self.assertEqual(result["lines"], len(cases))
            self.assertGreater(len(cases), 50)
            for case, line in zip(cases, lines, strict=True):
                text = case.pop("text")
                self.assertEqual(line, case, repr(text))

    def test_errors(self):
        self.assert_refused(MISSING, ["absent"], "encode", "--tokenizer", "absent", "--in", "i",
                            "--out", "o")
        self.assert_refused(MISSING, ["absent.jsonl"], "encode", "--tokenizer", TINY, "--in",
                            "absent.jsonl", "--out", "o")
        bad = self.folder / "bad.jsonl"
        bad.write_text('{"text": "fine"}\n{"txt": 1}\n')
        self.assert_refused(BAD_DATA, ["bad.jsonl:2", "text"], "encode", "--tokenizer", TINY,
                            "--in", bad, "--out", "o.jsonl")
        self.assertFalse((self.folder / "o.jsonl").exists())


class TokenizeAndInspect(CliTest):
    def test_shard(self):
        source = self.write_jsonl("two.jsonl.gz", ["hello world", "a second document"])
        made = self.run_json("tokenize", "--tokenizer", TINY, "--out", "two", source)
        self.assertEqual((made["documents"], made["token_size"], made["eos_id"]), (2, 2, 0))
        ids = (self.folder / "two.ds").read_bytes()
        self.assertEqual(len(ids), 2 * made["tokens"])
        self.assertEqual(ids[-2:], b"\0\0")

        shown = self.run_json("inspect", "two.ds", "--verify")
        self.assertEqual((shown["tokens"], shown["documents"]), (made["tokens"], 2))
        self.assertIs(shown["verified"], True)
        self.assertEqual(shown["origin"]["tokenizer_hash"], made["tokenizer_hash"])
        self.assertEqual(self.run_json("inspect", ".")["tokens"], made["tokens"])

        (self.folder / "two.ds").write_bytes(b"\1" + ids[1:])
        self.assert_refused(BAD_DATA, ["two.ds"], "inspect", "two.ds", "--verify")

    def test_eos_none_and_key(self):
        source = self.write_jsonl("body.jsonl", ["hello", "world"], key="body")
        done = self.run_json("tokenize", "--tokenizer", TINY, "--out", "n", "--eos", "none",
                             "--key", "body", source)
        more = self.run_json("tokenize", "--tokenizer", TINY, "--out", "a", "--key", "body", source)
        self.assertEqual(done["tokens"] + 2, more["tokens"])
        self.assertIsNone(done["eos_id"])

    def test_threads_do_not_change_the_shard(self):
        source = self.write_jsonl("many.jsonl", [f"text {i} " * (i % 7) + "." for i in range(500)])
        for threads in ["1", "3"]:
            self.run_json("tokenize", "--tokenizer", TINY, "--out", f"t{threads}", "--threads",
                          threads, source)
        self.assertEqual((self.folder / "t1.ds").read_bytes(),
                         (self.folder / "t3.ds").read_bytes())

    def test_eos_of_config_json(self):
        tokenizer = self.folder / "t"
        tokenizer.mkdir()
        (tokenizer / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
        source = self.write_jsonl("x.jsonl", ["hello"])
        self.assert_refused(MISSING, ["eos_token", "--eos none"], "tokenize", "--tokenizer",
                            tokenizer, "--out", "x", source)
        (tokenizer / "config.json").write_text('{"eos_token_id": 7}')
        self.assertEqual(self.run_json("tokenize", "--tokenizer", tokenizer, "--out", "x",
                                       source)["eos_id"], 7)
        (tokenizer / "tokenizer_config.json").write_text('{"eos_token": {"content": "nope"}}')
        self.assert_refused(BAD_DATA, ["tokenizer_config.json", "eos_token"], "tokenize",
                            "--tokenizer", tokenizer, "--out", "y", source)

    def test_unwritable_out(self):
        source = self.write_jsonl("x.jsonl", ["hello"])
        (self.folder / "file").write_text("")
        done = self.run_program("tokenize", "--tokenizer", TINY, "--out", "file/x", source)
        self.assertIn(done.returncode, (MISSING, IO, PERMISSION))
        self.assertIn("file", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_missing_input(self):
        self.assert_refused(MISSING, ["absent.txt"], "tokenize", "--tokenizer", TINY, "--out", "x",
                            "absent.txt")
        self.assertFalse((self.folder / "x.ds").exists())

    def test_models(self):
        source = self.run_json("inspect", TINY, "--verify")
        self.assertEqual((source["kind"], source["converted"]), ("hugging_face", False))
        self.assertEqual(sum(row["bytes"] for row in source["tensors"]), source["bytes"])
        self.run_json("convert", TINY, "--rope", "high", "--rope-pairs", "2", "--latent-dims", "8",
                      "--out", "mla")
        mla = self.run_json("inspect", "mla", "--verify")
        self.assertEqual((mla["kind"], mla["converted"]), ("native", True))
        # Per token and head: 2 r rotary and c latent dimensions instead of 2 D.
        layers, heads = source["shape"]["layers"], source["shape"]["kv_heads"]
        self.assertEqual(mla["cache"]["elements_per_token"], layers * heads * (2 * 2 + 8))
        self.assertEqual(mla["cache"]["elements_per_token_before"],
                         source["cache"]["elements_per_token"])
        self.assertEqual(mla["attention"][0]["kept_pairs"][0], [0, 1])

        file = next((self.folder / "mla").glob("*.h5"))
        self.assertIs(self.run_json("inspect", file, "--verify")["verified"], True)
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        self.assert_refused(BAD_DATA, [file.name], "inspect", file, "--verify")
        self.assert_refused(BAD_DATA, [file.name], "inspect", "mla")

    def test_export_and_import(self):
        self.run_json("convert", TINY, "--rope", "uniform", "--rope-pairs", "2", "--latent-dims", "8", "--out", "mla")
        for layout in ["v1", "v2"]:
            done = self.run_json("export", "mla", "--layout", layout, "--max-shard-bytes", "4000000", "--out", layout)
            self.assertEqual((done["max_abs_difference"], done["same_function"]), (0, True))
            self.assertTrue(self.run_json("compare", "mla", layout, "--bits")["equal"])
            read = self.run_json("inspect", layout)
            self.assertEqual((read["kind"], read["converted"]), ("hugging_face", True))
            self.assertGreater(len(list((self.folder / layout).glob("model-*.safetensors"))), 1)
            self.assertTrue((self.folder / layout / "tokenizer.json").exists())
        rounded = self.run_json("export", "v1", "--layout", "v2", "--dtype", "bfloat16", "--out", "rounded")
        self.assertIs(rounded["same_function"], False)

    def test_a_lossless_conversion_comes_back_as_a_dense_model(self):
        config = json.loads((TINY / "config.json").read_text())
        width = config["hidden_size"] // config["num_attention_heads"]
        dims = min(config["hidden_size"] // config["num_key_value_heads"], width)
        done = self.run_json("convert", TINY, "--rope", "full", "--latent-dims", dims, "--out", "mla")
        self.assertIs(done["exact"], True)
        self.assertLess(done["compare"]["max_abs_difference"], 1e-3)
        self.run_json("export", "mla", "--format", "dense", "--out", "dense")
        self.assertIs(self.run_json("inspect", "dense")["converted"], False)
        self.run_json("export", TINY, "--format", "dense", "--out", "same")
        self.assertTrue(self.run_json("compare", TINY, "same", "--bits")["equal"])

    def test_other_files(self):
        tensors = self.run_json("inspect", TINY / "model.safetensors")
        self.assertEqual(tensors["tensor_count"], len(tensors["tensors"]))
        self.assertEqual(self.run_json("inspect", TINY / "tokenizer.json")["vocab_size"], 8192)
        self.assert_refused(MISSING, ["absent", "got nothing"], "inspect", "absent")
        self.assert_refused(MISSING, ["another file"], "inspect", Path(__file__).resolve())


if __name__ == "__main__":
    unittest.main()
