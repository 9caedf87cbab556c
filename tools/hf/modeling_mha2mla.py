"""MHA2MLA models in transformers (4.46 or later):

    AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)

Reads both layouts of the public MHA2MLA code, told apart by config.json: "RoPE" and "SVD" (v1) or "mha2mla"
(v2). The cache holds the latent and the rotated part of the keys. Prompts expand keys and values from the
latent; single tokens are decoded on the latent itself, with the up projections absorbed into query and output.
"""
import torch
import transformers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

# Until 4.47 a decoder layer expects the cache as a third result.
RETURNS_CACHE = tuple(int(n) for n in transformers.__version__.split(".")[:2]) < (4, 48)


def head_dim_of(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def listed_pairs(config, pairs_per_head):
    """"kept_pairs" of config.json: per layer and kv head the pairs that 2-norm chose, "17,19,22"."""
    listed = getattr(config, "kept_pairs", None)
    if listed is None:
        raise ValueError('config.json: kept_pairs: expected the pairs that 2-norm chose, got nothing; '
                         "export the folder with mha2mla")
    kept = [[[int(pair) for pair in head.split(",")] for head in layer] for layer in listed]
    if any(len(head) != pairs_per_head for layer in kept for head in layer):
        raise ValueError(f"config.json: kept_pairs: expected {pairs_per_head} pairs in every head")
    return kept


def kept_pairs(config):
    """Per layer and kv head the frequency pairs that rotate, ascending. Pair k is columns k and k + P."""
    pairs = head_dim_of(config) // 2

    def everywhere(kept):
        return [[list(kept)] * config.num_key_value_heads] * config.num_hidden_layers

    v2 = getattr(config, "mha2mla", None)
    if v2 is not None:
        version, r = v2["partial_rope_version"], v2["rope_dim_for_mla"] // 2
        if version == "2-norm":
            return listed_pairs(config, r)
        start, step = v2["uniform_start_point"], max(pairs // r, 1)
        return everywhere({"high": range(r), "low": range(pairs - r, pairs),
                           "uniform": range(start, pairs, step)}[version])
    v1 = config.RoPE
    version, first, last = v1["partial_rope_version"], v1["top_k_rope_dim"], v1["last_k_rope_dim"]
    if version == 4:
        return listed_pairs(config, first)
    return everywhere({0: range(pairs), 1: range(first), 5: range(pairs - last, pairs),
                       2: range(v1["uniform_start_point"], pairs, v1["uniform_step"]),
                       3: [*range(first), *range(pairs - last, pairs)]}[version])


def latent_of(config):
    """("joint" | "split" | "none", latent dims per kv head)"""
    v2 = getattr(config, "mha2mla", None)
    if v2 is not None:
        return v2["svd_init_method"], v2["low_rank"]
    svd = getattr(config, "SVD", None)
    if svd is None or svd["method"] == 0:
        return "none", 0
    return "split" if svd["method"] in (2, 3) else "joint", svd["low_rank"]


def rotate(x, cos, sin):
    """x [..., 2r] with the first columns of its pairs in the first half; cos and sin [..., r]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Mha2mlaAttention(nn.Module):
    def __init__(self, config, layer_idx, kept):
        super().__init__()
        self.layer_idx = layer_idx
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.group, self.head_dim = self.heads // self.kv_heads, head_dim_of(config)
        self.kept, self.rotary = kept, 2 * len(kept[0])
        self.method, per_head = latent_of(config)
        self.is_v2 = getattr(config, "mha2mla", None) is not None
        self.latent = per_head * self.kv_heads
        self.indices = {}  # by device; no buffers, which a model made on the meta device would lose
        qkv_bias = getattr(config, "attention_bias", config.model_type == "qwen2")
        hidden, values = config.hidden_size, self.kv_heads * self.head_dim
        nope = self.kv_heads * (self.head_dim - self.rotary)
        self.q_proj = nn.Linear(hidden, self.heads * self.head_dim, bias=qkv_bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, hidden,
                                bias=getattr(config, "attention_bias", False))
        if self.is_v2:
            self.k_r_proj = nn.Linear(hidden, self.kv_heads * self.rotary, bias=qkv_bias)
            self.kv_proj = nn.Module()
            for name in {"joint": ["down_kv"], "split": ["down_k", "down_v"], "none": []}[self.method]:
                self.kv_proj.add_module(name, nn.Linear(hidden, self.latent, bias=False))
            width = hidden if self.method == "none" else self.latent
            self.kv_proj.up_k = nn.Linear(width, nope, bias=qkv_bias)
            self.kv_proj.up_v = nn.Linear(width, values, bias=qkv_bias)
        elif self.method == "none":
            self.k_proj = nn.Linear(hidden, values, bias=qkv_bias)
            self.v_proj = nn.Linear(hidden, values, bias=qkv_bias)
        else:
            # A projection without rows is not stored.
            self.W_k_r = nn.Linear(hidden, self.kv_heads * self.rotary, bias=False) if self.rotary else None
            self.W_down_k = nn.Linear(hidden, self.latent, bias=False)
            if self.method == "split":
                self.W_down_v = nn.Linear(hidden, self.latent, bias=False)
            self.W_up_k = nn.Linear(self.latent, nope, bias=False) if nope else None
            self.W_up_v = nn.Linear(self.latent, values, bias=False)

    # ---- parts of the layouts ----

    def up(self):
        return (self.kv_proj.up_k, self.kv_proj.up_v) if self.is_v2 else (self.W_up_k, self.W_up_v)

    def down(self, x):
        """What is cached for keys and values: [B, S, C], twice as wide with split."""
        if self.is_v2:
            parts = [self.kv_proj.down_kv] if self.method == "joint" else [self.kv_proj.down_k, self.kv_proj.down_v]
        else:
            parts = [self.W_down_k] if self.method == "joint" else [self.W_down_k, self.W_down_v]
        return torch.cat([part(x) for part in parts], dim=-1)

    def index(self, device):
        """Kept pairs [G, r], and the columns of a head in the order [rotary, rest] [G, D]."""
        if device not in self.indices:
            half = self.head_dim // 2
            order = [[*kept, *(k + half for k in kept), *(c for c in range(self.head_dim) if c % half not in kept)]
                     for kept in self.kept]
            self.indices[device] = (torch.tensor(self.kept, dtype=torch.long, device=device),
                                    torch.tensor(order, dtype=torch.long, device=device))
        return self.indices[device]

    def ordered(self, x, heads):
        """[B, S, heads * D] in the source's order -> [B, heads, S, D] in the order [rotary, rest]."""
        x = x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)
        order = self.index(x.device)[1].repeat_interleave(heads // self.kv_heads, dim=0)
        return x.gather(-1, order[None, :, None, :].expand(x.shape))

    def query(self, x):
        """[B, H, S, 2r] and [B, H, S, D - 2r]"""
        q = self.q_proj(x)
        if not self.is_v2:
            return self.ordered(q, self.heads).split([self.rotary, self.head_dim - self.rotary], dim=-1)
        widths = [self.heads * self.rotary, self.heads * (self.head_dim - self.rotary)]
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in q.split(widths, dim=-1)]

    def rotary_key(self, x):
        """[B, G, S, 2r]"""
        if self.rotary == 0:
            return x.new_zeros(x.shape[0], self.kv_heads, x.shape[1], 0)
        k = self.k_r_proj(x) if self.is_v2 else self.W_k_r(x)
        return k.unflatten(-1, (self.kv_heads, self.rotary)).transpose(1, 2)

    def split_heads(self, x):
        return x.unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)

    # ---- attention ----

    def forward(self, hidden_states, position_embeddings, attention_mask=None, past_key_value=None,
                past_key_values=None, output_attentions=False, **kwargs):
        cache = past_key_values if past_key_values is not None else past_key_value
        cos, sin = (self.of_pairs(table) for table in position_embeddings)
        q_rotary, q_rest = self.query(hidden_states)
        q_rotary = rotate(q_rotary, cos.repeat_interleave(self.group, 1), sin.repeat_interleave(self.group, 1))
        if self.method == "none":
            out, weights = self.without_latent(hidden_states, q_rotary, q_rest, cos, sin, attention_mask, cache)
        else:
            k_rotary = rotate(self.rotary_key(hidden_states), cos, sin)
            latent = self.down(hidden_states).unsqueeze(1)  # [B, 1, S, C or 2 C]
            if cache is not None:  # the latent in the place of keys: it is never empty
                latent, k_rotary = cache.update(latent, k_rotary, self.layer_idx)
            attend = self.absorbed if hidden_states.shape[1] == 1 else self.expanded
            out, weights = attend(q_rotary, q_rest, k_rotary, latent.squeeze(1), attention_mask)
        out = self.o_proj(out.transpose(1, 2).flatten(2))
        results = (out, weights if output_attentions else None)
        return (*results, cache) if RETURNS_CACHE else results

    def of_pairs(self, table):
        """cos or sin [B, S, D] of transformers -> those of the kept pairs, [B, G, S, r]."""
        pairs = self.index(table.device)[0]
        return table[..., pairs].permute(0, 2, 1, 3)

    def without_latent(self, x, q_rotary, q_rest, cos, sin, mask, cache):
        if self.is_v2:
            k_rotary, k_rest = self.rotary_key(x), self.split_heads(self.kv_proj.up_k(x))
            v = self.split_heads(self.kv_proj.up_v(x))
        else:
            k_rotary, k_rest = self.ordered(self.k_proj(x), self.kv_heads).split(
                [self.rotary, self.head_dim - self.rotary], dim=-1)
            v = self.split_heads(self.v_proj(x))
        k = torch.cat([rotate(k_rotary, cos, sin), k_rest], dim=-1)
        if cache is not None:
            k, v = cache.update(k, v, self.layer_idx)
        weights = self.probabilities(self.scores(torch.cat([q_rotary, q_rest], dim=-1), k), mask)
        return self.weighted(weights, v), weights

    def expanded(self, q_rotary, q_rest, k_rotary, latent, mask):
        up_k, up_v = self.up()
        c_k, c_v = latent.chunk(2, dim=-1) if self.method == "split" else (latent, latent)
        scores = self.scores(q_rotary, k_rotary)
        if up_k is not None:
            scores = scores + self.scores(q_rest, self.split_heads(up_k(c_k)))
        weights = self.probabilities(scores, mask)
        return self.weighted(weights, self.split_heads(up_v(c_v))), weights

    def absorbed(self, q_rotary, q_rest, k_rotary, latent, mask):
        """A bias of up_k adds the same to the scores of all keys, which softmax does not see."""
        up_k, up_v = self.up()
        c_k, c_v = latent.chunk(2, dim=-1) if self.method == "split" else (latent, latent)
        scores = self.scores(q_rotary, k_rotary)
        if up_k is not None:
            rows = up_k.weight.unflatten(0, (self.kv_heads, -1)).repeat_interleave(self.group, 0)  # [H, D - 2r, C]
            scores = scores + (q_rest @ rows) @ c_k.unsqueeze(1).transpose(-1, -2)
        weights = self.probabilities(scores, mask)
        rows = up_v.weight.unflatten(0, (self.kv_heads, -1)).repeat_interleave(self.group, 0)  # [H, D, C]
        out = (weights @ c_v.unsqueeze(1)) @ rows.transpose(-1, -2)
        if up_v.bias is not None:
            out = out + up_v.bias.unflatten(0, (self.kv_heads, 1, -1)).repeat_interleave(self.group, 0)
        return out, weights

    def scores(self, q, k):
        return q @ k.repeat_interleave(self.group, 1).transpose(-1, -2)

    def weighted(self, weights, v):
        return weights @ v.repeat_interleave(self.group, 1)

    def probabilities(self, scores, mask):
        """softmax of scores [B, H, S, T] over the scale of the source's head, in float32."""
        scores = scores / self.head_dim**0.5
        queries, keys = scores.shape[-2:]
        if mask is None:
            future = torch.ones(queries, keys, dtype=torch.bool, device=scores.device).triu(keys - queries + 1)
            scores = scores.masked_fill(future, float("-inf"))
        elif mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask[..., :keys], torch.finfo(scores.dtype).min)
        else:
            scores = scores + mask[..., :keys]
        return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)


def replace_attention(model, config):
    for layer_idx, (layer, kept) in enumerate(zip(model.model.layers, kept_pairs(config))):
        layer.self_attn = Mha2mlaAttention(config, layer_idx, kept)
    model.post_init()


class Mha2mlaLlamaConfig(LlamaConfig):
    pass


class Mha2mlaQwen2Config(Qwen2Config):
    pass


class Mha2mlaForCausalLM:
    """Comes before the class of transformers whose attention it replaces."""

    _supports_sdpa = _supports_flash_attn_2 = _supports_flash_attn = _supports_flex_attn = False
    _supports_static_cache = _supports_quantized_cache = False

    def __init__(self, config):
        super().__init__(config)
        replace_attention(self, config)


class Mha2mlaLlamaForCausalLM(Mha2mlaForCausalLM, LlamaForCausalLM):
    config_class = Mha2mlaLlamaConfig


class Mha2mlaQwen2ForCausalLM(Mha2mlaForCausalLM, Qwen2ForCausalLM):
    config_class = Mha2mlaQwen2Config
