"""Hostile weights: .safetensors (ST) and model.safetensors.index.json (IX)."""
import json
import os
import struct
import sys

from harness import (BAD_DATA, MISSING, MODEL, OK, PERMISSION, case, cases, copy_model, evaluate, main, safetensors,
                     support, tensor)


def inspect(folder, content):
    (folder / "x.safetensors").write_bytes(content)
    return ["inspect", "x.safetensors"]


def length(value, rest=b"{}"):
    return struct.pack("<Q", value) + rest


cases("ST01", BAD_DATA, {
    "empty": (b"", "x.safetensors: error: size: expected at least the 8-byte header length, got 0 bytes"),
    "one_byte": (b"{", "x.safetensors", "size", "got 1 bytes"),
    "seven_bytes": (bytes(7), "x.safetensors", "size", "got 7 bytes"),
}, inspect)

cases("ST02", BAD_DATA, {
    "zero": (length(0), "x.safetensors:byte 0: error: header length: expected 2 to", "got 0"),
    "beyond_the_file": (length(3), "header length", "(the file has 10 bytes)", "got 3"),
    "beyond_the_limit": (length(100_000_001), "header length", "got 100000001"),
    "sign_bit": (length(1 << 63), "header length", "got 9223372036854775808"),
    "wraps": (length((1 << 64) - 1), "header length", "got 18446744073709551615"),
}, inspect)

whole = safetensors({"w": tensor("F32", [4], 0, 16)}, bytes(16))
cases("ST03", BAD_DATA, {
    "in_the_header": (whole[:20], "header length", "got", "incomplete download"),
    "by_one_byte": (whole[:-1], "data section: expected 16 bytes", "got 15", "incomplete download?"),
    "half": (whole[:-8], "data section", "got 8", "incomplete download?"),
}, inspect)

cases("ST04", BAD_DATA, {
    "zip_appended": (whole + b"PK\x05\x06" + bytes(18), "data section: expected 16 bytes", "got 38", "appended"),
    "pickle_appended": (whole + b"\x80\x04.", "data section", "got 19", "appended"),
}, inspect)

cases("ST05", BAD_DATA, {
    "not_utf8": (safetensors(b'{"\xff":{}}'), "x.safetensors:byte ", "header: expected JSON", "UTF-8"),
    "byte_order_mark": (safetensors(b"\xef\xbb\xbf{}"), "byte 8: error: header: expected '{', got byte 239"),
    "nul": (safetensors(b'{"a":\0{}}'), "byte 13: error: header: expected JSON, got byte 0"),
    "no_object": (safetensors(b"[]"), "byte 8", "expected '{'"),
    "trailing_comma": (safetensors(b'{"a":{"dtype":"U8",}}'), "byte ", "header: expected JSON"),
    "comment": (safetensors(b'{/* */}'), "byte ", "header: expected JSON"),
}, inspect)

twice = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
cases("ST06", BAD_DATA, {
    "tensor_twice": (safetensors(twice, b"a"), "x.safetensors:w: error: header: expected every name once"),
    "key_twice": (safetensors(b'{"w":{"dtype":"U8","dtype":"I8"}}'), "x.safetensors:w", "dtype twice"),
}, inspect)


def offsets(text, data=b"abcd"):
    return safetensors(b'{"w":{"dtype":"U8","shape":[4],"data_offsets":%s}}' % text, data)


cases("ST07", BAD_DATA, {
    "overlap": (safetensors({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, b"abc"),
                "x.safetensors:b: error: data_offsets: expected begin 2, the end of a [0, 2), got [1, 3), an overlap"),
    "hole": (safetensors({"a": tensor("U8", [1], 1, 2)}, b"ab"), "x.safetensors:a", "data_offsets", "a hole"),
    "reversed": (offsets(b"[4,0]"), "x.safetensors:w: error: data_offsets: expected begin <= end, got [4, 0)"),
    "negative": (offsets(b"[-1,4]"), "x.safetensors:w", "data_offsets", "not negative", "got -1"),
    "float": (offsets(b"[0.0,4]"), "x.safetensors:w", "data_offsets", "got 0.0"),
    "string": (offsets(b'["0",4]'), "x.safetensors:w", "data_offsets", 'got "0"'),
    "three": (offsets(b"[0,4,4]"), "x.safetensors:w", "data_offsets", "[begin, end]"),
}, inspect)

cases("ST08", BAD_DATA, {
    "product_wraps": (safetensors({"w": tensor("U8", [1 << 32, 1 << 32], 0, 0)}), "x.safetensors:w: error: shape"),
    "product_wraps_bytes": (safetensors({"w": tensor("F64", [1 << 61], 0, 0)}), "x.safetensors:w: error: shape"),
    "million_dimensions": (safetensors({"w": tensor("U8", [1] * 10**6)}, b"a"), "shape: expected at most 64 dimensions"),
}, inspect)


@case("ST08 zero_and_scalar_are_shapes", OK, "tensor_count  2")
def _(folder):
    return inspect(folder, safetensors({"a": tensor("F32", [0, 3], 0, 0), "b": tensor("F32", [], 0, 4)}, bytes(4)))


cases("ST09", BAD_DATA, {
    "made_up": (safetensors({"w": tensor("F31")}, b"a"), "x.safetensors:w: error: dtype: expected a safetensors type",
                'got "F31"'),
    "space": (safetensors({"w": tensor("BF16 ", [1], 0, 2)}, b"ab"), "dtype", 'got "BF16 "'),
    "lower_case": (safetensors({"w": tensor("f32", [1], 0, 4)}, b"abcd"), "dtype", 'got "f32"'),
}, inspect)

cases("ST10", BAD_DATA, {
    "shorter": (safetensors({"w": tensor("F32", [2], 0, 4)}, b"abcd"),
                "x.safetensors:w: error: data_offsets: expected 8 bytes for F32 [2], got 4 bytes"),
    "half_a_byte": (safetensors({"w": tensor("F4", [1], 0, 1)}, b"a"), "x.safetensors:w: error: shape"),
}, inspect)


def changed_model(folder, change):
    """The test model with header and data after change(header, data)."""
    model = copy_model(folder)
    path = model / "model.safetensors"
    header, data = support.read_safetensors(path)
    data = bytearray(data)
    change(header, data)
    support.write_safetensors(path, header, bytes(data))
    return evaluate(folder, model)


@case("ST09 integers_where_weights_belong", BAD_DATA, "model.norm.weight: error: dtype: expected F32, BF16 or F16, got I32")
def _(folder):
    return changed_model(folder, lambda header, data: header["model.norm.weight"].update(dtype="I32"))


@case("ST11 extra_tensor", BAD_DATA, "model: error: tensors: expected the", "unexpected 1 (zzz)")
def _(folder):
    def add(header, data):
        header["zzz"] = tensor("U8", [1], len(data), len(data) + 1)
        data += b"a"
    return changed_model(folder, add)


@case("ST11 prefix", BAD_DATA, "model: error: tensors: expected", "missing", "unexpected", 'prefix "module."', "remove it")
def _(folder):
    def rename(header, data):
        for name in [name for name in header if name != "__metadata__"]:
            header["module." + name] = header.pop(name)
    return changed_model(folder, rename)


@case("ST12 transposed", BAD_DATA, "model.layers.0.mlp.up_proj.weight: error: shape: expected [", "got [", "config.json")
def _(folder):
    return changed_model(folder, lambda header, data: header["model.layers.0.mlp.up_proj.weight"]["shape"].reverse())


def write_value(name, value):
    def change(header, data):
        begin = header[name]["data_offsets"][0]
        data[begin:begin + 4] = struct.pack("<f", value)
    return change


for word, value in [("nan", float("nan")), ("infinite", float("inf"))]:
    case(f"ST13 {word}", BAD_DATA, "model.norm.weight: error: values: expected finite numbers",
         "1 NaN or infinite, the first at element 0")(
        lambda folder, value=value: changed_model(folder, write_value("model.norm.weight", value)))

cases("ST14", BAD_DATA, {
    "many_tensors": (safetensors({f"t{i}": tensor("U8", [0], 0, 0) for i in range(100_000)}),
                     "header: expected at most 65536 tensors"),
    "header_of_100_MB": (length(100_000_000, b'{"a":' + b" " * 99_999_995), "x.safetensors:byte", "header", "expected '}'"),
    "long_name": (safetensors({"n" * (1 << 20): tensor()}, b"a"), "tensor name: expected at most 512 bytes, got 1048576"),
    "nested": (safetensors(b'{"a":' * 100_000 + b"}" * 100_000), "x.safetensors:a: error: key: expected dtype, shape, data_offsets, got a"),
    "nested_lists": (safetensors(b'{"a":{"shape":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"), "x.safetensors:a", "shape"),
}, inspect)

cases("ST15", BAD_DATA, {
    "number": (safetensors(b'{"__metadata__":{"a":1}}'), "x.safetensors:__metadata__: error: a: expected a string, got 1"),
    "terminal_escape": (safetensors(b'{"__metadata__":{"\\u001b[2J\\u0007":1}}'), "\\x1b[2J\\x07: expected a string"),
    "escape_in_a_name": (safetensors(b'{"\\u001b]0;x\\n":{"dtype":"F31","shape":[],"data_offsets":[0,0]}}'), "\\x1b]0;x\\x0a"),
}, inspect)


@case("ST18 folder", MISSING, "model.safetensors: error: file: expected a regular file")
def _(folder):
    model = copy_model(folder)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()
    return evaluate(folder, model)


@case("ST18 fifo", MISSING, "model.safetensors: error: file: expected a regular file")
def _(folder):
    model = copy_model(folder)
    (model / "model.safetensors").unlink()
    os.mkfifo(model / "model.safetensors")
    return evaluate(folder, model)


@case("ST18 device", MISSING, "model.safetensors: error: file: expected a regular file")
def _(folder):
    model = copy_model(folder)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("/dev/zero")
    return evaluate(folder, model)


@case("ST18 dangling_link", MISSING, "model.safetensors: error: open: expected an existing file, got No such file")
def _(folder):
    model = copy_model(folder)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("nowhere")
    return evaluate(folder, model)


@case("ST18 link_to_itself", MISSING, "model.safetensors: error: open: expected an existing file, got Too many levels")
def _(folder):
    model = copy_model(folder)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("model.safetensors")
    return evaluate(folder, model)


if os.geteuid() != 0:  # nobody forbids root to read
    @case("ST18 no_permission", PERMISSION, "model.safetensors: error: open: expected permission to do so")
    def _(folder):
        model = copy_model(folder)
        (model / "model.safetensors").chmod(0)
        return evaluate(folder, model)


def indexed(folder, change=lambda index, model: None, text=None):
    """The test model in two files behind an index, after change(index, folder of the model)."""
    model = copy_model(folder)
    header, data = support.read_safetensors(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    header.pop("__metadata__", None)
    names = sorted(header)
    weight_map = {}
    for number, part in enumerate([names[:8], names[8:]], 1):
        entries, bytes_ = {}, b""
        for name in part:
            begin, end = header[name]["data_offsets"]
            entries[name] = header[name] | {"data_offsets": [len(bytes_), len(bytes_) + end - begin]}
            bytes_ += data[begin:end]
            weight_map[name] = f"part-{number}.safetensors"
        support.write_safetensors(model / f"part-{number}.safetensors", entries, bytes_)
    index = {"metadata": {"total_size": len(data)}, "weight_map": weight_map}
    change(index, model)
    (model / "model.safetensors.index.json").write_text(json.dumps(index) if text is None else text)
    return evaluate(folder, model)


def map_entry(value, name="model.norm.weight"):
    return lambda index, model: index["weight_map"].update({name: value})


case("IX00 the_index_itself_is_fine", OK, "5.04883")(indexed)

case("IX01 shard_missing", MISSING, "part-9.safetensors: error: open: expected an existing file")(
    lambda folder: indexed(folder, map_entry("part-9.safetensors")))


@case("IX01 shard_not_named", OK, "part-3.safetensors", "left out")
def _(folder):
    return indexed(folder, lambda index, model: (model / "part-3.safetensors").write_bytes(safetensors({})))


for word, value in [("parent", "../part-1.safetensors"), ("absolute", "/etc/passwd"), ("nul", "part-1\0.safetensors"),
                    ("url", "https://example.com/x.safetensors"), ("empty", ""), ("dots", "..")]:
    case(f"IX02 {word}", BAD_DATA, "index.json: error: weight_map.model.norm.weight: expected the plain name of a file",
         "got")(lambda folder, value=value: indexed(folder, map_entry(value)))

case("IX03 mapped_to_the_wrong_shard", BAD_DATA, "index.json: error: weight_map.model.norm.weight: expected in "
     "part-1.safetensors, got no such tensor there")(
    lambda folder: indexed(folder, map_entry("part-1.safetensors")))


@case("IX03 in_two_shards", BAD_DATA, "weight_map.zzz: expected in one file only, got part-1.safetensors and part-2")
def _(folder):
    def change(index, model):
        for number in [1, 2]:
            path = model / f"part-{number}.safetensors"
            header, data = support.read_safetensors(path)
            header["zzz"] = tensor("U8", [1], len(data), len(data) + 1)
            support.write_safetensors(path, header, data + b"a")
    return indexed(folder, change)


case("IX04 total_size", OK, "total_size is 5, the tensors have 167040 bytes")(
    lambda folder: indexed(folder, lambda index, model: index["metadata"].update(total_size=5)))

case("IX05 million_entries", BAD_DATA, "index.json: error: weight_map: expected at most 65536 tensors, got 100020")(
    lambda folder: indexed(folder, lambda index, model: index["weight_map"].update(
        {f"t{i}": "part-1.safetensors" for i in range(100_000)})))
case("IX05 duplicate_key", BAD_DATA, "index.json: error: JSON", 'duplicate key "a"')(
    lambda folder: indexed(folder, text='{"weight_map": {"a": "x", "a": "y"}}'))
case("IX05 value_no_string", BAD_DATA, "index.json: error: weight_map.model.norm.weight: expected a file name, got 7")(
    lambda folder: indexed(folder, map_entry(7)))
case("IX05 syntax", BAD_DATA, "index.json:byte 16: error: JSON: expected valid JSON")(
    lambda folder: indexed(folder, text='{"weight_map": '))


@case("IX06 git_lfs_pointer", BAD_DATA, "model.safetensors: error: content", "Git LFS pointer", "git lfs pull")
def _(folder):
    model = copy_model(folder)
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    return evaluate(folder, model)


main()
