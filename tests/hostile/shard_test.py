"""Hostile token shards: .ds and the files beside it (SH)."""
import os
import struct

from harness import BAD_CONFIG, BAD_DATA, IO, MISSING, MODEL, OK, SOURCE, case, cases, main, support


def shard(folder, ids=b"\1\0" * 64, metadata=None, index=None, record=None):
    (folder / "x.ds").write_bytes(ids)
    for suffix, content in [(".metadata", metadata), (".index", index), (".json", record)]:
        if content is not None:
            (folder / ("x.ds" + suffix)).write_bytes(content)
    return folder / "x.ds"


def evaluate(folder, settings):
    shard(folder, **settings)
    return ["eval", MODEL, "--data", "x.ds", "--sequence-length", "16"]


def train(folder, *overrides):
    support.write_config(folder / "run.yaml", SOURCE, folder / "x.ds", folder / "runs")
    return ["train", "run.yaml", *overrides]


def ids(*values):
    return struct.pack(f"<{len(values)}H", *values)


case("SH00 the_shard_itself_is_fine", OK)(lambda folder: evaluate(folder, {}))

cases("SH01", BAD_DATA, {
    "first": ({"ids": ids(97, *[1] * 63)}, "x.ds:token 0: error: token id: expected less than the vocabulary size 97, got 97"),
    "last": ({"ids": ids(*[1] * 63, 65535)}, "x.ds:token 63: error: token id", "got 65535"),
    "four_bytes": ({"ids": struct.pack("<32I", 2**32 - 1, *[1] * 31), "metadata": b"t|4\n32\n"}, "x.ds:token 0",
                   "got 4294967295"),
}, evaluate)

case("SH02 for_eval", BAD_DATA, "x.ds: error: tokens: expected at least 16", "got 15")(
    lambda folder: evaluate(folder, {"ids": ids(*[1] * 15)}))


@case("SH02 for_train", BAD_DATA, "x.ds: error: tokens: expected at least 17", "got 16")
def _(folder):
    shard(folder, ids(*[1] * 16))
    return train(folder)


cases("SH03", BAD_DATA, {
    "odd_size": ({"ids": bytes(33)}, "x.ds: error: size: expected a multiple of the token size 2, got 33 bytes", "truncated"),
    "other_count": ({"metadata": b"t|2\n65\n"}, "x.ds.metadata:2: error: tokens: expected 64 (size of the .ds), got 65"),
    "count_no_number": ({"metadata": b"t|2\nmany\n"}, "x.ds.metadata:2: error: tokens", 'got "many"'),
    "count_overflows": ({"metadata": b"t|2\n99999999999999999999\n"}, "x.ds.metadata:2: error: tokens"),
    "count_negative": ({"metadata": b"t|2\n-1\n"}, "x.ds.metadata:2: error: tokens", 'got "-1"'),
    "metadata_of_a_gigabyte": ({"metadata": b"t|2\n" * (1 << 16)}, "x.ds.metadata: error: size: expected at most 65536"),
}, evaluate)

cases("SH04", BAD_DATA, {
    "width_3": ({"metadata": b"t|3\n64\n"}, 'x.ds.metadata:1: error: token size: expected "TOKENIZER|2" or', 'got "t|3"'),
    "no_width": ({"metadata": b"t\n64\n"}, "x.ds.metadata:1: error: token size"),
    "read_as_4": ({"metadata": b"t|4\n64\n"}, "x.ds.metadata:2: error: tokens: expected 32"),
    "big_endian": ({"ids": b"\0\1" * 64}, "x.ds:token 0: error: token id", "got 256"),
}, evaluate)


@case("SH05 two_bytes_for_a_large_vocabulary", BAD_DATA, "x.ds: error: token size: expected 4 bytes for a vocabulary of 70000, got 2")
def _(folder):
    import json
    model = folder / "model"
    model.mkdir()
    settings = {"vocab_size": 70000, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "head_dim": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True, "model_type": "llama"}
    (model / "config.json").write_text(json.dumps(settings))
    layer = {"input_layernorm": [4], "post_attention_layernorm": [4], "mlp.gate_proj": [4, 4], "mlp.up_proj": [4, 4],
             "mlp.down_proj": [4, 4], "self_attn.q_proj": [4, 4], "self_attn.k_proj": [2, 4], "self_attn.v_proj": [2, 4],
             "self_attn.o_proj": [4, 4]}
    shapes = {f"model.layers.0.{name}.weight": shape for name, shape in layer.items()}
    shapes |= {"model.embed_tokens.weight": [70000, 4], "model.norm.weight": [4]}
    header, position = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    support.write_safetensors(model / "model.safetensors", header, bytes(position))
    shard(folder, metadata=b"t|2\n64\n")
    return ["eval", "model", "--data", "x.ds", "--sequence-length", "16"]


case("SH06 empty", BAD_DATA, "x.ds: error: size: expected tokens, got an empty shard")(
    lambda folder: evaluate(folder, {"ids": b""}))
case("SH06 none", MISSING, "x.ds: error: dataset: expected a .ds file or a folder of .ds files, got nothing", "mha2mla tokenize")(
    lambda folder: ["eval", MODEL, "--data", "x.ds"])


@case("SH06 folder_without_shards", MISSING, "shards: error: dataset: expected a .ds file or a folder of .ds files")
def _(folder):
    (folder / "shards").mkdir()
    support.write_config(folder / "run.yaml", SOURCE, folder / "shards", folder / "runs")
    return ["train", "run.yaml"]


@case("SH06 listed_twice", BAD_DATA, "x.ds: error: dataset_folder: expected every shard once", "listed twice")
def _(folder):
    shard(folder, b"\1\0" * 1000)
    return train(folder, "data_stages.0.data.dataset.dataset_folder=[x.ds, x.ds]",
                 "data_stages.0.data.dataset.dataset_weights=[1, 1]")


@case("SH07 fifo", MISSING, "x.ds: error: file: expected a regular file")
def _(folder):
    os.mkfifo(folder / "x.ds")
    return ["eval", MODEL, "--data", "x.ds"]


@case("SH09 fewer_samples_than_a_batch", BAD_CONFIG, 'run.yaml: error: samples of data stage "main": expected at least one global '
      "batch of 8, got 2")
def _(folder):
    shard(folder, ids(*[1] * 40))
    return train(folder)


cases("SH10", BAD_DATA, {
    "falls": ({"index": struct.pack("<3Q", 40, 30, 64)}, "x.ds.index:byte 8: error: document index: expected an end >= 40, got 30"),
    "beyond_the_end": ({"index": struct.pack("<2Q", 40, 65)}, "x.ds.index:byte 8", "expected the last end to be 64", "got 65"),
    "before_the_end": ({"index": struct.pack("<1Q", 63)}, "x.ds.index:byte 0", "expected the last end to be 64"),
    "cut": ({"index": bytes(12)}, "x.ds.index: error: document index: expected 8 bytes per document, got 12 bytes"),
    "empty": ({"index": b""}, "x.ds.index: error: document index"),
    "huge": ({"index": b"\xff" * 8}, "x.ds.index:byte 0", "got 18446744073709551615"),
}, evaluate)

for word, weights in [("zero", "[0, 0]"), ("negative", "[1, -1]"), ("nan", "[1, .nan]"), ("too_few", "[1]")]:
    @case(f"SH11 weights_{word}", BAD_CONFIG, "data_stages.0.data.dataset.dataset_weights")
    def _(folder, weights=weights):
        shard(folder, b"\1\0" * 1000)
        return train(folder, "data_stages.0.data.dataset.dataset_folder=[x.ds, y.ds]",
                     f"data_stages.0.data.dataset.dataset_weights={weights}")

HASH = b'{"xxh3_128": "00000000000000000000000000000000"}'
LARGE = b'{"xxh3_128": "", "x": "' + bytes(16 << 20)
for word, record, *parts in [("flipped", HASH, "x.ds: error: content hash: expected 0000", "damaged"),
                             ("no_hash", b"{}", "x.ds.json: error: xxh3_128: expected the hash of the .ds, got none"),
                             ("no_json", b"{", "x.ds.json:byte ", "JSON"),
                             ("short_hash", b'{"xxh3_128": "00"}', 'x.ds.json: error: xxh3_128: expected 32 hexadecimal digits, got "00"'),
                             ("large_record", LARGE, "x.ds.json: error: size: expected at most 16777216 bytes")]:
    @case(f"SH12 {word}", BAD_DATA, *parts)
    def _(folder, record=record):
        shard(folder, metadata=b"t|2\n64\n", record=record)
        return ["inspect", "x.ds", "--verify"]

for suffix in [".metadata", ".index", ".json"]:
    @case(f"SH13 link_to_itself{suffix}", MISSING, f"x.ds{suffix}: error: stat: expected an existing file, got Too many levels of")
    def _(folder, suffix=suffix):
        shard(folder, metadata=None if suffix == ".metadata" else b"t|2\n64\n")
        os.symlink(f"x.ds{suffix}", folder / f"x.ds{suffix}")
        return ["inspect", "x.ds", "--verify"]


@case("SH13 no_room_for_the_suffix", IO, ".ds.metadata: error: stat: File name too long")
def _(folder):
    name = "n" * 250 + ".ds"
    shard(folder).rename(folder / name)
    return ["eval", MODEL, "--data", name]


main()
