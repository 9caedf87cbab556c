"""Hostile text to tokenize (TX)."""
import gzip
import json
import os

from harness import BAD_DATA, MISSING, OK, SOURCE, case, cases, main

TOKENIZER = SOURCE / "tests/data_files/tokenizer-gpt2"


def tokenize(name):
    def make(folder, content):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["tokenize", "--tokenizer", TOKENIZER, "--out", "made", "--eos", "none", "--threads", "1", name]
    return make


def line(text):
    return json.dumps({"text": text}) + "\n"


text, lines = tokenize("x.txt"), tokenize("x.jsonl")

cases("TX01", BAD_DATA, {
    "overlong": (b"ab\n\xc0\xaf", "x.txt:2: error: encoding: expected UTF-8, got byte 0xc0 at offset 3", "convert the file"),
    "surrogate": (b"\xed\xa0\x80", "x.txt:1: error: encoding: expected UTF-8, got byte 0xed"),
    "cut_at_the_end": ("é".encode()[:1], "x.txt:1: error: encoding", "byte 0xc3 at offset 0"),
    "latin_1": ("café".encode("latin-1"), "x.txt:1: error: encoding", "byte 0xe9"),
}, text)
case("TX01 in_a_line", BAD_DATA, "x.jsonl:2: error: encoding: expected UTF-8, got byte 0xff")(
    lambda folder: lines(folder, b'{"text": "fine"}\n{"text": "b\xffd"}\n'))


@case("TX02 one_line_too_long", BAD_DATA, "x.jsonl:1: error: document size: expected at most 268435456 bytes", "split the document")
def _(folder):
    command = lines(folder, '{"text": "')
    with open(folder / "x.jsonl", "r+b") as file:
        file.truncate(300 << 20)  # zeros: a line without an end
    return command


@case("TX02 bomb", BAD_DATA, "x.txt.gz:1: error: document size: expected at most 268435456 bytes")
def _(folder):
    return tokenize("x.txt.gz")(folder, gzip.compress(bytes(300 << 20), 1))


case("TX03 control_characters_are_kept", OK)(lambda folder: text(folder, b"a\x00\x01\x7f\xef\xbb\xbfb"))

case("TX04 no_line_end", OK)(lambda folder: lines(folder, line("ab").strip()))
case("TX04 carriage_returns", OK)(lambda folder: text(folder, "a\rb\rc"))
cases("TX04", BAD_DATA, {word: (content, "made.ds: error: tokens: expected at least one, got none in all of the input") for word, content in [
    ("empty", ""), ("blank_lines", "\n\n  \r\n")]}, lines)

cases("TX05", BAD_DATA, {
    "gzip": (gzip.compress(b"abc"), "x.txt: error: content: expected text, got what looks like gzip (1f 8b)"),
    "zip": (b"PK\x03\x04abc", "x.txt: error: content", "zip"),
    "parquet": (b"PAR1\x15\x04", "x.txt: error: content", "parquet"),
    "zstd": (b"\x28\xb5\x2f\xfd\0", "x.txt: error: content", "zstd"),
}, text)
case("TX05 no_gzip_under_its_name", BAD_DATA, "x.txt.gz:1: error: gzip: expected a complete stream")(
    lambda folder: tokenize("x.txt.gz")(folder, b"plain text"))
case("TX05 gzip_cut_short", BAD_DATA, "x.txt.gz:1: error: gzip: expected a complete stream, got the file ends inside")(
    lambda folder: tokenize("x.txt.gz")(folder, gzip.compress(b"abc" * 100)[:-9]))

cases("TX06", BAD_DATA, {
    "syntax": (line("a") + '{"text": \n', "x.jsonl:2:byte ", "JSON: expected valid JSON"),
    "missing": (line("a") + '{"txt": "b"}\n', "x.jsonl:2: error: text: expected a string, got only keys txt", "--key"),
    "number": ('{"text": 7}\n', "x.jsonl:1: error: text: expected a string, got number"),
    "null": ('{"text": null}\n', "x.jsonl:1: error: text: expected a string, got null"),
    "duplicate_key": ('{"text": "a", "text": "b"}\n', "x.jsonl:1: error: JSON", 'duplicate key "text"'),
    "nan": ('{"text": "a", "n": NaN}\n', "x.jsonl:1:byte ", "JSON: expected valid JSON"),
    "list": ("[]\n", "x.jsonl:1: error: JSON: expected an object, got array"),
    "nested": ('{"a": ' + "[" * 100_000 + "\n", "x.jsonl:1: error: JSON", "nesting deeper than 64"),
    "nul": (b'{"text": "a"}\0\n', "x.jsonl:1:byte 13: error: JSON", "a NUL byte"),
    "surrogate": ('{"text": "\\ud800"}\n', "x.jsonl:1:byte ", "JSON", "surrogate"),
}, lines)


@case("TX09 a_million_times_a", OK)
def _(folder):
    return text(folder, "a" * 10**6)


@case("TX09 alternating", OK)
def _(folder):
    return text(folder, "ab" * 500_000)


case("TX10 no_file", MISSING, "x.txt: error: open: expected an existing file")(
    lambda folder: ["tokenize", "--tokenizer", TOKENIZER, "--out", "made", "--eos", "none", "x.txt"])


@case("TX10 fifo", MISSING, "x.txt: error: file: expected a regular file")
def _(folder):
    os.mkfifo(folder / "x.txt")
    return ["tokenize", "--tokenizer", TOKENIZER, "--out", "made", "--eos", "none", "x.txt"]


def zstd_of(letter, count):
    """A zstd frame of `count` blocks, each 128 KiB of one letter in four bytes."""
    blocks = [(128 << 10 << 3 | 1 << 1 | (i == count - 1)).to_bytes(3, "little") + letter for i in range(count)]
    return b"\x28\xb5\x2f\xfd\0\x38" + b"".join(blocks)


case("TX11 a_mebibyte_of_one_letter", OK)(lambda folder: tokenize("x.txt.zst")(folder, zstd_of(b"a", 8)))
case("TX11 bomb_of_one_document", BAD_DATA, "x.txt.zst:1: error: zstd: expected at most 2048 bytes of text per byte, got ",
     "decompress the file first")(lambda folder: tokenize("x.txt.zst")(folder, zstd_of(b"a", 256)))
case("TX11 bomb_of_lines", BAD_DATA, "x.jsonl.zst:", "error: zstd: expected at most 2048 bytes of text per byte")(
    lambda folder: tokenize("x.jsonl.zst")(folder, zstd_of(b"\n", 256)))

main()
