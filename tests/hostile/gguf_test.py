"""Hostile GGUF files (GG)."""
import struct

from harness import BAD_DATA, OK, case, cases, main, support

UINT8, INT32, UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 0, 5, 4, 6, 7, 8, 9, 10
F32, Q4_0, Q4_1, Q8_0, Q6_K = 0, 2, 3, 8, 14
WIDTH, VOCABULARY, HUGE = 32, 8, (1 << 64) - 1


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    return string(key) + struct.pack("<I", kind) + value


def uint32(key, value):
    return entry(key, UINT32, struct.pack("<I", value))


def array(key, kind, count, elements):
    return entry(key, ARRAY, struct.pack("<IQ", kind, count) + elements)


def texts(key, values):
    return array(key, STRING, len(values), b"".join(string(v) for v in values))


def int32s(key, values):
    return array(key, INT32, len(values), struct.pack(f"<{len(values)}i", *values))


def info(name, shape=(WIDTH,), kind=F32, offset=0):
    """`shape` as in the file: the contiguous extent first."""
    return (string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
            + struct.pack("<IQ", kind, offset))


def gguf(entries=(), infos=(), data=b"", version=3, tensors=None, count=None, magic=b"GGUF", alignment=32):
    head = magic + struct.pack("<IQQ", version, len(infos) if tensors is None else tensors,
                               len(entries) if count is None else count)
    head += b"".join(entries) + b"".join(infos)
    return head + bytes(-len(head) % alignment) + data


def metadata():
    """Entries of a model of one layer, by key."""
    numbers = {"context_length": 64, "embedding_length": WIDTH, "block_count": 1, "feed_forward_length": WIDTH,
               "attention.head_count": 2, "attention.head_count_kv": 1, "vocab_size": VOCABULARY}
    found = {"general.architecture": entry("general.architecture", STRING, string("llama"))}
    for name, value in numbers.items():
        found["llama." + name] = uint32("llama." + name, value)
    epsilon = "llama.attention.layer_norm_rms_epsilon"
    found[epsilon] = entry(epsilon, FLOAT32, struct.pack("<f", 1e-5))
    tokens = ["<end>"] + list("abcdefg")
    found["model"] = entry("tokenizer.ggml.model", STRING, string("gpt2"))
    found["pre"] = entry("tokenizer.ggml.pre", STRING, string("gpt-2"))
    found["tokens"] = texts("tokenizer.ggml.tokens", tokens)
    found["types"] = int32s("tokenizer.ggml.token_type", [3] + [1] * 7)
    found["merges"] = texts("tokenizer.ggml.merges", [])
    found["eos"] = uint32("tokenizer.ggml.eos_token_id", 0)
    return found


SHAPES = {"token_embd": (WIDTH, VOCABULARY), "output_norm": (WIDTH,), "blk.0.attn_norm": (WIDTH,),
          "blk.0.attn_q": (WIDTH, WIDTH), "blk.0.attn_k": (WIDTH, 16), "blk.0.attn_v": (WIDTH, 16),
          "blk.0.attn_output": (WIDTH, WIDTH), "blk.0.ffn_norm": (WIDTH,), "blk.0.ffn_gate": (WIDTH, WIDTH),
          "blk.0.ffn_up": (WIDTH, WIDTH), "blk.0.ffn_down": (WIDTH, WIDTH)}


def whole(change=lambda values, tensors: None):
    """A sound model after change({key: entry}, [[name, shape, type, bytes]])."""
    values = metadata()
    tensors = []
    for name, shape in SHAPES.items():
        count = 1
        for extent in shape:
            count *= extent
        tensors.append([name + ".weight", shape, F32, struct.pack("<f", 0.01) * count])
    change(values, tensors)
    infos, data = [], b""
    for name, shape, kind, content in tensors:
        infos.append(info(name, shape, kind, len(data)))
        data += content + bytes(-len(content) % 32)
    return gguf(list(values.values()), infos, data)


def inspect(folder, content):
    (folder / "x.gguf").write_bytes(content)
    return ["inspect", "x.gguf"]


def evaluate(folder, content):
    (folder / "x.gguf").write_bytes(content)
    support.write_shard(folder / "x.ds", vocabulary=VOCABULARY, count=64)
    return ["eval", "x.gguf", "--data", "x.ds", "--sequence-length", "16", "--json"]


def values_changed(**changes):
    return whole(lambda values, tensors: values.update(changes))


def tensors_changed(change):
    return whole(lambda values, tensors: change(tensors))


case("GG00 a_sound_file", OK, "ppl")(lambda folder: evaluate(folder, whole()))
case("GG00 a_sound_file_is_shown", OK, "tensor_count")(lambda folder: inspect(folder, whole()))

cases("GG01", BAD_DATA, {
    "empty": (b"", "x.gguf", "magic", "incomplete download"),
    "other_magic": (b"GGML" + bytes(60), 'x.gguf:byte 0: error: magic: expected "GGUF", got "GGML"'),
    "swapped_magic": (gguf(magic=b"FUGG"), 'magic: expected "GGUF", got "FUGG"'),
    "version_0": (gguf(version=0), "x.gguf:byte 4: error: version: expected 2 or 3, got 0"),
    "version_1": (gguf(version=1), "version: expected 2 or 3, got 1"),
    "future": (gguf(version=4), "version: expected 2 or 3, got 4"),
    "big_endian": (gguf(version=3 << 24), "version: expected 2 or 3", "big-endian"),
}, inspect)

cases("GG02", BAD_DATA, {
    "all_ones_tensors": (gguf(tensors=HUGE), "x.gguf:byte 8: error: number of tensors", "got 18446744073709551615"),
    "million_millions": (gguf(tensors=10**12), "number of tensors", "got 1000000000000"),
    "all_ones_entries": (gguf(count=HUGE), "x.gguf:byte 16: error: number of entries", "got 18446744073709551615"),
    "more_than_fit": (gguf(count=5), "number of entries: expected at most", "got 5", "rest of the file"),
}, inspect)

cases("GG03", BAD_DATA, {
    "endless_key": (gguf([struct.pack("<Q", HUGE) + bytes(20)]), "length of the key: expected at most 65535 bytes"),
    "long_key": (gguf([uint32("k" * 65536, 1)]), "length of the key: expected at most 65535 bytes, got 65536"),
    "empty_key": (gguf([uint32("", 1)]), "x.gguf:byte 24: error: key 0: expected a name"),
    "not_ascii": (gguf([uint32(b"a\xff\x1b", 1)]), "key 0: expected printable ASCII"),
    "twice": (gguf([uint32("a", 1), uint32("a", 2)]), "key 1: expected every key once, got a twice"),
}, inspect)

cases("GG04", BAD_DATA, {
    "type_13": (gguf([entry("a", 13, bytes(20))]), "x.gguf:a: error: type: expected 0 to 12, got 13"),
    "arrays_of_arrays": (gguf([entry("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 10_000)]), "x.gguf:a: error: array",
                         "an array of arrays"),
    "size_wraps": (gguf([array("a", UINT64, 1 << 61, bytes(20))]), "x.gguf:a: error: array", "2305843009213693952"),
    "longer_than_the_file": (gguf([array("a", UINT8, 1 << 40, bytes(20))]), "x.gguf:a: error: value: expected"),
    "strings_beyond_the_file": (gguf([array("a", STRING, 1 << 40, bytes(20))]), "x.gguf:a", "at most", "strings"),
}, inspect)

cases("GG05", BAD_DATA, {
    "bytes_for_strings": (values_changed(tokens=array("tokenizer.ggml.tokens", UINT8, 8, bytes(8))),
                          "x.gguf: error: tokenizer.ggml.tokens: expected an array of STRING, got an array of UINT8"),
    "string_for_a_number": (values_changed(**{"llama.block_count": entry("llama.block_count", STRING, string("1"))}),
                            "llama.block_count: expected an integer from 1 to 1024, got STRING"),
    "integer_for_a_float": (values_changed(**{"llama.attention.layer_norm_rms_epsilon":
                                              uint32("llama.attention.layer_norm_rms_epsilon", 1)}),
                            "llama.attention.layer_norm_rms_epsilon: expected FLOAT32 or FLOAT64, got UINT32"),
}, evaluate)

cases("GG06", BAD_DATA, {
    "nul": (values_changed(tokens=texts("tokenizer.ggml.tokens", ["a\0"] * 8)), "tokenizer.ggml.tokens[0]", "NUL", "\\x00"),
    "not_utf8": (values_changed(pre=entry("tokenizer.ggml.pre", STRING, string(b"\xff"))), "tokenizer.ggml.pre", "UTF-8"),
    "10_GB": (gguf([entry("a", STRING, struct.pack("<Q", 10**10) + bytes(40))]), "x.gguf:a: error: length of the string"),
}, evaluate)

cases("GG07", BAD_DATA, {
    "zero": (gguf([uint32("general.alignment", 0)]), "x.gguf:general.alignment: error: value: expected a power of two"),
    "odd": (gguf([uint32("general.alignment", 13)]), "a power of two from 8 to 4096, got 13"),
    "huge": (gguf([uint32("general.alignment", 1 << 31)]), "got 2147483648"),
    "signed": (gguf([entry("general.alignment", INT32, struct.pack("<i", 32))]), "type: expected UINT32, got INT32"),
}, inspect)


def one(shape=(WIDTH,), kind=F32, offset=0, data=bytes(4 * WIDTH), name="w"):
    return gguf([], [info(name, shape, kind, offset)], data)


cases("GG08", BAD_DATA, {
    "no_dimension": (one(()), "x.gguf:w: error: number of dimensions: expected 1 to 4, got 0"),
    "five_dimensions": (one((1,) * 5), "number of dimensions: expected 1 to 4, got 5"),
    "2_to_32_dimensions": (gguf([], [string("w") + struct.pack("<I", 0xFFFFFFFF) + bytes(40)]), "got 4294967295"),
    "zero": (one((WIDTH, 0)), "x.gguf:w: error: shape: expected extents from 1 to", "got 0"),
    "product_wraps": (one((1 << 32, 1 << 32)), "x.gguf:w: error: shape: expected a size below 2^64 bytes"),
    "bytes_wrap": (one((1 << 31, 1 << 31)), "x.gguf:w: error: shape: expected a size below 2^64 bytes"),
    "padding_wraps": (one((1 << 31, (1 << 31) - 1)), "x.gguf:w: error: data"),
}, inspect)

half = [info("a", (1 << 30, 1 << 31), F32, 0), info("b", (1 << 30, 1 << 31), F32, 0)]
cases("GG09", BAD_DATA, {"sizes_wrap": (gguf([], half, bytes(64)), "x.gguf:a: error:")}, inspect)

pair = bytes(8 * WIDTH)
cases("GG10", BAD_DATA, {
    "misaligned": (one(offset=4), "x.gguf:w: error: offset: expected 0, got 4"),
    "beyond_the_file": (one(offset=1 << 40), "offset: expected 0, got 1099511627776"),
    "overlap": (gguf([], [info("a"), info("b", offset=64)], pair), "x.gguf:b: error: offset: expected 128, got 64"),
    "same": (gguf([], [info("a"), info("b")], pair), "x.gguf:b: error: offset: expected 128, got 0"),
    "wrong_order": (gguf([], [info("a", offset=128), info("b")], pair), "x.gguf:a: error: offset: expected 0, got 128"),
    "appended": (one(data=bytes(4 * WIDTH + 32)), "data: expected the end of the file, got 32 more bytes"),
}, inspect)

cases("GG11", BAD_DATA, {
    "larger_than_the_data": (one((WIDTH, 1024)), "x.gguf:w: error: data: expected 131072 bytes from 0, got 128"),
    "by_one_byte": (one(data=bytes(4 * WIDTH - 1)), "x.gguf:w: error: data: expected 128 bytes", "incomplete download?"),
}, inspect)

cases("GG12", BAD_DATA, {
    "not_read": (one((256,), Q6_K), "x.gguf:w: error: type: expected F32, F16, BF16, Q8_0, Q4_0, Q4_1, got Q6_K"),
    "removed": (one((WIDTH,), 4), "got Q4_2"),
    "made_up": (one((WIDTH,), 77), "got type 77"),
    "half_a_block": (one((WIDTH + 1,), Q8_0), "x.gguf:w: error: shape: expected rows of whole Q8_0 blocks of 32, got [33]"),
}, inspect)

cases("GG13", BAD_DATA, {
    "twice": (gguf([], [info("w"), info("w", offset=128)], pair), "name of tensor 1: expected every name once, got w twice"),
    "long_name": (one(name="w" * 64), "length of the tensor name: expected at most 63 bytes, got 64"),
    "escape": (one(name="\x1b[2J"), "name of tensor 0: expected printable ASCII", "\\x1b"),
}, inspect)


def quantized(scale):
    def change(tensors):
        block = scale + bytes(16)
        tensors[-1][2:] = [Q4_0, block * WIDTH]
    return tensors_changed(change)


cases("GG14", BAD_DATA, {
    "infinite_scale": (quantized(b"\x00\x7c"), "x.gguf:blk.0.ffn_down.weight: error: values: expected finite numbers",
                       "block 0 of Q4_0"),
    "nan_scale": (quantized(b"\x01\x7e"), "block 0 of Q4_0"),
    "nan": (tensors_changed(lambda tensors: tensors[1].__setitem__(3, struct.pack("<f", float("nan")) * WIDTH)),
            "x.gguf:output_norm.weight: error: values", "element 0 of F32"),
}, evaluate)

cases("GG15", BAD_DATA, {
    "part_of_a_split": (values_changed(split=entry("split.count", 2, struct.pack("<H", 3))),
                        "x.gguf: error: split.count: expected 1, got one part of a model", "merge the parts"),
}, evaluate)


def without(key):
    return whole(lambda values, tensors: values.pop(key))


def removed(index):
    return tensors_changed(lambda tensors: tensors.pop(index))


cases("GG16", BAD_DATA, {
    "no_architecture": (without("general.architecture"), "general.architecture: expected llama, got nothing"),
    "other_architecture": (values_changed(**{"general.architecture": entry("general.architecture", STRING, string("gemma"))}),
                           "general.architecture: expected llama, got gemma"),
    "no_head_count": (without("llama.attention.head_count"), "llama.attention.head_count: expected an integer", "got nothing"),
    "many_layers": (values_changed(**{"llama.block_count": uint32("llama.block_count", 1025)}), "from 1 to 1024, got 1025"),
    "more_layers_than_tensors": (values_changed(**{"llama.block_count": uint32("llama.block_count", 2)}),
                                 "x.gguf:blk.1.attn_norm.weight: error: tensor: expected [32], got nothing"),
    "experts": (values_changed(experts=uint32("llama.expert_count", 8)), "llama.expert_count: expected 0 or nothing, got 8"),
    "other_rope": (values_changed(rope=entry("llama.rope.scaling.type", STRING, string("yarn"))),
                   "llama.rope.scaling.type: expected none or linear, got yarn"),
    "part_of_a_head_rotates": (values_changed(rope=uint32("llama.rope.dimension_count", 8)),
                               "llama.rope.dimension_count: expected 16, the width of a head, got 8"),
    "no_embedding": (removed(0), "x.gguf:token_embd.weight: error: tensor: expected a matrix, got nothing"),
    "no_norm": (removed(1), "x.gguf:output_norm.weight: error: tensor: expected [32], got nothing"),
    "transposed": (tensors_changed(lambda tensors: tensors[4].__setitem__(1, (16, WIDTH))),
                   "x.gguf:blk.0.attn_k.weight: error: shape: expected [16, 32]", "got [32, 16]"),
    "unknown_tensor": (tensors_changed(lambda tensors: tensors.append(["zzz", (8,), F32, bytes(32)])),
                       "x.gguf:zzz: error: tensor: expected only those of a Llama model"),
}, evaluate)

cases("GG17", BAD_DATA, {
    "fewer_tokens": (values_changed(tokens=texts("tokenizer.ggml.tokens", ["a", "b"])),
                     "tokenizer.ggml.tokens: expected 8 tokens, the rows of token_embd.weight, got 2"),
    "fewer_types": (values_changed(types=int32s("tokenizer.ggml.token_type", [1])),
                    "tokenizer.ggml.token_type: expected 8 elements, one for each token, got 1"),
    "token_twice": (values_changed(tokens=texts("tokenizer.ggml.tokens", ["a"] * 8)), "every token once"),
    "eos_outside": (values_changed(eos=uint32("tokenizer.ggml.eos_token_id", 8)),
                    "tokenizer.ggml.eos_token_id: expected an integer from 0 to 7, got 8"),
}, evaluate)

sound = whole()
cases("GG18", BAD_DATA, {
    f"cut_at_{size}": (sound[:size], "x.gguf") for size in [3, 4, 23, 24, 40, 200, len(sound) // 2, len(sound) - 1]
}, evaluate)

main()
