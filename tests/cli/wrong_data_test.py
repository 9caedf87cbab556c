"""Damaged texts, tokenizers and shards: told in one line, and nothing is left half-written.

  wrong_data_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import sys
import unittest

sys.dont_write_bytecode = True
from wrong_input import MODEL, TOKENIZER, BAD_DATA, MISSING, WrongInput, refused


class Texts(WrongInput):
    def tokenize(self, tokenizer, text):
        return ["tokenize", "--tokenizer", tokenizer, "--out", "made", text]

    @refused(MISSING, "absent", "expected an existing file", "No such file", "check the path")
    def test_no_tokenizer(self):
        (self.folder / "text.jsonl").write_text('{"text": "fine"}\n')
        return self.tokenize("absent", "text.jsonl")

    @refused(MISSING, "absent.jsonl", "expected an existing file", "No such file", "check the path")
    def test_no_text(self):
        return self.tokenize(TOKENIZER, "absent.jsonl")

    @refused(BAD_DATA, "tokenizer.json", "expected", "got")
    def test_corrupt_tokenizer(self):
        (self.folder / "text.jsonl").write_text('{"text": "fine"}\n')
        content = (TOKENIZER / "tokenizer.json").read_bytes()
        (self.folder / "tokenizer.json").write_bytes(content[:len(content) // 2])
        return self.tokenize("tokenizer.json", "text.jsonl")

    @refused(BAD_DATA, "text.jsonl:2", "expected", "UTF-8", "got")
    def test_invalid_utf8(self):
        (self.folder / "text.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "b\xffd"}\n')
        return self.tokenize(TOKENIZER, "text.jsonl")


class Shards(WrongInput):
    def put_id_beyond_the_vocabulary(self):
        content = bytearray(self.shard.read_bytes())
        content[200:202] = (97).to_bytes(2, "little")
        self.shard.write_bytes(content)

    @refused(MISSING, "absent.ds", "mha2mla tokenize")
    def test_no_shard(self):
        return ["eval", MODEL, "--data", "absent.ds"]

    @refused(BAD_DATA, "train.ds: error: size: expected tokens, got an empty shard", "tokenize again")
    def test_empty_for_eval(self):
        self.shard.write_bytes(b"")
        return self.eval(MODEL)

    @refused(BAD_DATA, "train.ds: error: size: expected tokens, got an empty shard", "tokenize again")
    def test_empty_for_train(self):
        self.shard.write_bytes(b"")
        return ["train", self.config]

    @refused(BAD_DATA, "train.ds:token 100: error: token id: expected less than the vocabulary size 97",
             "got 97", "tokenizer")
    def test_id_beyond_the_vocabulary_for_eval(self):
        self.put_id_beyond_the_vocabulary()
        return self.eval(MODEL)

    @refused(BAD_DATA, "train.ds:token 100: error: token id: expected less than the vocabulary size 97",
             "got 97", "tokenizer")
    def test_id_beyond_the_vocabulary_for_train(self):
        self.put_id_beyond_the_vocabulary()
        return ["train", self.config]

    @refused(BAD_DATA, "train.ds: error: tokens: expected at least 5000", "got 3000")
    def test_shorter_than_a_sequence_for_eval(self):
        return ["eval", MODEL, "--data", self.shard, "--sequence-length", "5000"]

    @refused(BAD_DATA, "train.ds: error: tokens: expected at least 5001", "got 3000")
    def test_shorter_than_a_sequence_for_train(self):
        return ["train", self.config, "tokens.sequence_length=5000"]


if __name__ == "__main__":
    unittest.main(verbosity=2)  # which tells why a case was skipped
