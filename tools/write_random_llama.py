#!/usr/bin/env python3
"""A Llama model of any shape with random weights, as a Hugging Face folder of sharded safetensors
in bfloat16, and beside it OUT-ids.safetensors, token ids to calibrate it on: what
docs/conversion.md measures convert with.

    tools/write_random_llama.py OUT                       # the shape of Llama-2-7B, 13 GB
    tools/write_random_llama.py OUT --hidden 256 --layers 4 --heads 4 --ffn 512 --vocab 1000

Needs numpy. Holds one tensor at a time.
"""
import argparse
import json
import pathlib
import struct

import numpy as np

DEVIATION = 0.02  # of every matrix, as models are initialised


def parameters(a):
    """(name, shape) of every tensor, in the order of the layers."""
    d, head_dim = a.hidden, a.hidden // a.heads
    kv = a.kv_heads * head_dim
    yield "model.embed_tokens.weight", (a.vocab, d)
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (d,)
        for name, rows in (("q", d), ("k", kv), ("v", kv), ("o", d)):
            yield f"{prefix}self_attn.{name}_proj.weight", (rows, d)
        yield prefix + "post_attention_layernorm.weight", (d,)
        yield prefix + "mlp.gate_proj.weight", (a.ffn, d)
        yield prefix + "mlp.up_proj.weight", (a.ffn, d)
        yield prefix + "mlp.down_proj.weight", (d, a.ffn)
    yield "model.norm.weight", (d,)
    yield "lm_head.weight", (a.vocab, d)


def bfloat16_bits(values):
    """uint16 bits, rounded to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def weights(shape, rng):
    if len(shape) == 1:
        return bfloat16_bits(np.ones(shape))
    return bfloat16_bits(rng.standard_normal(shape, np.float32) * np.float32(DEVIATION))


def deal(tensors, shard_bytes):
    shards, used = [[]], 0
    for name, shape in tensors:
        size = 2 * int(np.prod(shape))
        if shards[-1] and used + size > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append((name, shape))
        used += size
    return shards


def write_safetensors(path, entries):
    """entries: (name, dtype, shape, function that makes the elements); one at a time."""
    header, position = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, _ in entries:
        end = position + {"BF16": 2, "I32": 4}[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, make in entries:
            make().tofile(file)


def config(a):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "vocab_size": a.vocab, "hidden_size": a.hidden, "intermediate_size": a.ffn,
            "num_hidden_layers": a.layers, "num_attention_heads": a.heads,
            "num_key_value_heads": a.kv_heads, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
            "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    for name, default in (("hidden", 4096), ("layers", 32), ("heads", 32), ("kv-heads", 0),
                          ("ffn", 11008), ("vocab", 32000), ("seed", 1),
                          ("shard-bytes", 4 << 30), ("windows", 2), ("window-length", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    a.kv_heads = a.kv_heads or a.heads
    a.out.mkdir(parents=True)
    rng = np.random.default_rng(a.seed)
    shards, weight_map, total = deal(parameters(a), a.shard_bytes), {}, 0
    for i, shard in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_safetensors(a.out / name, [(tensor, "BF16", shape, lambda s=shape: weights(s, rng))
                                         for tensor, shape in shard])
        weight_map.update({tensor: name for tensor, _ in shard})
        total += sum(2 * int(np.prod(shape)) for _, shape in shard)
        print(f"{name}: {len(shard)} tensors")
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (a.out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    (a.out / "config.json").write_text(json.dumps(config(a), indent=2))
    shape = (a.windows, a.window_length)
    ids = rng.integers(0, a.vocab, shape, np.int32)
    path = a.out.with_name(a.out.name + "-ids.safetensors")
    write_safetensors(path, [("input_ids", "I32", shape, lambda: ids)])
    print(f"{total} bytes of weights; ids {list(shape)} in {path}")


if __name__ == "__main__":
    main()
