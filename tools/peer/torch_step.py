"""A training step of PyTorch, as its users write it, on the shapes of bench/step_case.h: plain modules, autocast,
AdamW. Reads a line, makes a step, writes a line of JSON; run by compare.py."""
import argparse
import json
import math
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Shape:
    """What bench/step_case.h calls `shape`; r and c are the paper's rows of 18.75 %: r = D/16 pairs, c = D/4."""

    def __init__(self, name, mla):
        tiny = name == "tiny-llama"
        self.vocabulary = 8192 if tiny else 49152
        self.hidden = 192 if tiny else 576
        self.intermediate = 512 if tiny else 1536
        self.layers = 6 if tiny else 30
        self.heads = 6 if tiny else 9
        self.kv_heads = 6 if tiny else 3
        self.head_dim = 32 if tiny else 64
        self.mla = mla
        self.rope = self.head_dim // 8 if mla else self.head_dim
        self.latent = self.head_dim // 4 * self.kv_heads


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        wide = x.float()
        return (self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5))).to(x.dtype)


def linear(inputs, outputs):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, 0, 0.02)
    return layer


def rotate(x, cosine, sine):
    a, b = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-b, a), -1) * sine


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.norm1, self.norm2 = RmsNorm(s.hidden), RmsNorm(s.hidden)
        self.q = linear(s.hidden, s.heads * s.head_dim)
        if s.mla:
            self.k_rope = linear(s.hidden, s.kv_heads * s.rope)
            self.down_kv = linear(s.hidden, s.latent)
            self.up_k = linear(s.latent, s.kv_heads * (s.head_dim - s.rope))
            self.up_v = linear(s.latent, s.kv_heads * s.head_dim)
        else:
            self.k = linear(s.hidden, s.kv_heads * s.head_dim)
            self.v = linear(s.hidden, s.kv_heads * s.head_dim)
        self.o = linear(s.heads * s.head_dim, s.hidden)
        self.gate, self.up = linear(s.hidden, s.intermediate), linear(s.hidden, s.intermediate)
        self.down = linear(s.intermediate, s.hidden)

    def attention(self, x, cosine, sine, mask):
        s, (batch, tokens, _) = self.s, x.shape
        heads = lambda t, n: t.view(batch, tokens, n, -1).transpose(1, 2)
        q = heads(self.q(x), s.heads)
        q = torch.cat((rotate(q[..., :s.rope], cosine, sine), q[..., s.rope:]), -1)
        if s.mla:
            latent = self.down_kv(x)
            k = torch.cat((rotate(heads(self.k_rope(x), s.kv_heads), cosine, sine), heads(self.up_k(latent), s.kv_heads)), -1)
            v = heads(self.up_v(latent), s.kv_heads)
        else:
            k, v = rotate(heads(self.k(x), s.kv_heads), cosine, sine), heads(self.v(x), s.kv_heads)
        q, k = q.to(v.dtype), k.to(v.dtype)
        k, v = (t.repeat_interleave(s.heads // s.kv_heads, 1) for t in (k, v))
        if hasattr(F, "scaled_dot_product_attention"):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = torch.matmul(q * (1 / math.sqrt(s.head_dim)), k.transpose(2, 3)) + mask
            out = torch.matmul(torch.softmax(scores, -1, dtype=torch.float32).to(v.dtype), v)
        return self.o(out.transpose(1, 2).reshape(batch, tokens, -1))

    def forward(self, x, cosine, sine, mask):
        x = x + self.attention(self.norm1(x), cosine, sine, mask)
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.embedding = nn.Embedding(s.vocabulary, s.hidden)
        nn.init.normal_(self.embedding.weight, 0, 0.02)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.norm = RmsNorm(s.hidden)

    def forward(self, ids, targets):
        tokens, s = ids.shape[1], self.s
        angles = torch.outer(torch.arange(tokens).float(), 1e4 ** (-torch.arange(0, s.rope, 2).float() / s.rope))
        angles = torch.cat((angles, angles), -1)
        cosine, sine = angles.cos(), angles.sin()
        mask = torch.full((tokens, tokens), -math.inf).triu(1)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, cosine, sine, mask)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.view(-1, s.vocabulary).float(), targets.view(-1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--sequence", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--ids", required=True)
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Model(Shape(args.shape, not args.dense))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    forward = torch.compile(model) if args.compile else model
    with open(args.ids, "rb") as file:
        ids = torch.frombuffer(bytearray(file.read()), dtype=torch.int32).long().view(args.batch, args.sequence)

    def step():
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bfloat16"):
            loss = forward(ids, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"seconds": time.perf_counter() - start, "loss": loss.item()}

    print(json.dumps({"name": "PyTorch " + torch.__version__.split("+")[0] + (" compiled" if args.compile else "")}), flush=True)
    for _ in sys.stdin:
        result = step()
        result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
