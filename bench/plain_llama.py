"""A Llama in plain PyTorch, for bench/gpu_model.py on machines that have PyTorch and no transformers.

What a user would write: SDPA, fused products where PyTorch has them, a cache that is allocated once. Weights are random, and
Llama 3's scaling of the rotary frequencies, which costs nothing, is left out.
"""
import torch
from torch import nn
from torch.nn import functional as F


class Adapted(nn.Module):
    """A frozen linear layer and an adapter of rank 16 beside it."""

    def __init__(self, base, rank=16, alpha=32):
        super().__init__()
        self.base = base.requires_grad_(False)
        like = {"bias": False, "device": base.weight.device, "dtype": base.weight.dtype}
        self.a = nn.Linear(base.in_features, rank, **like)
        self.b = nn.Linear(rank, base.out_features, **like)
        self.scaling = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scaling * self.b(self.a(x))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Block(nn.Module):
    def __init__(self, dim, ffn, heads, kv_heads, width, eps):
        super().__init__()
        self.heads, self.kv_heads, self.width, self.eps = heads, kv_heads, width, eps
        self.input_norm, self.post_norm = (nn.Parameter(torch.ones(dim)) for _ in range(2))
        self.q_proj = nn.Linear(dim, heads * width, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(dim, kv_heads * width, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(heads * width, dim, bias=False)
        self.gate_proj, self.up_proj = (nn.Linear(dim, ffn, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(ffn, dim, bias=False)

    def forward(self, x, cos, sin, attend):
        rows, tokens, dim = x.shape
        h = F.rms_norm(x, (dim,), self.input_norm, self.eps)
        q, k, v = (linear(h).view(rows, tokens, -1, self.width).transpose(1, 2)
                   for linear in (self.q_proj, self.k_proj, self.v_proj))
        out = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.o_proj(out.transpose(1, 2).reshape(rows, tokens, -1))
        h = F.rms_norm(x, (dim,), self.post_norm, self.eps)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


def causal(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


class Cache:
    """Keys and values of all blocks, [rows][kv_heads][positions][width]."""

    def __init__(self, model, rows, positions):
        shape = (len(model.blocks), rows, model.blocks[0].kv_heads, positions, model.blocks[0].width)
        like = model.embedding.weight
        self.k, self.v = (torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2))
        self.positions = torch.arange(positions, device=like.device)

    def prompt(self, i):
        def attend(q, k, v):
            self.k[i][:, :, :k.shape[2]] = k
            self.v[i][:, :, :v.shape[2]] = v
            return causal(q, k, v)
        return attend

    def step(self, i, at):
        """One new token, of which the host knows the position: attention over what is there."""
        def attend(q, k, v):
            self.k[i][:, :, at:at + 1] = k
            self.v[i][:, :, at:at + 1] = v
            return F.scaled_dot_product_attention(q, self.k[i][:, :, :at + 1], self.v[i][:, :, :at + 1],
                                                  enable_gqa=True)
        return attend

    def fixed_step(self, i, at):
        """The same in fixed shapes, which a CUDA graph needs; `at` is on the device."""
        def attend(q, k, v):
            self.k[i].index_copy_(2, at, k)
            self.v[i].index_copy_(2, at, v)
            groups = q.shape[1] // k.shape[1]
            return F.scaled_dot_product_attention(q, self.k[i].repeat_interleave(groups, 1),
                                                  self.v[i].repeat_interleave(groups, 1),
                                                  attn_mask=(self.positions <= at)[None, None, None])
        return attend


class PlainLlama(nn.Module):
    def __init__(self, config):
        super().__init__()
        dim, heads = config["hidden_size"], config["num_attention_heads"]
        width, self.eps = config.get("head_dim") or dim // heads, config["rms_norm_eps"]
        self.embedding = nn.Embedding(config["vocab_size"], dim)
        self.blocks = nn.ModuleList(Block(dim, config["intermediate_size"], heads, config["num_key_value_heads"], width,
                                          self.eps) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(dim))
        powers = torch.arange(0, width, 2, dtype=torch.float32) / width
        theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
        self.register_buffer("frequencies", float(theta) ** -powers.repeat(2))
        for weight in self.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)

    def adapt(self):
        self.requires_grad_(False)
        for block in self.blocks:
            for name, layer in list(block.named_children()):
                setattr(block, name, Adapted(layer))

    def hidden(self, ids, positions, attend):
        """attend(i) is the attention of block i."""
        x = self.embedding(ids)
        angles = positions[:, None].float() * self.frequencies.float()
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, attend(i))
        return F.rms_norm(x, x.shape[-1:], self.norm, self.eps)

    def embed(self, ids):
        return self.hidden(ids, torch.arange(ids.shape[1], device=ids.device), lambda i: causal)

    def loss(self, ids):
        logits = F.linear(self.embed(ids)[:, :-1], self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())

    def next_ids(self, hidden):
        return F.linear(hidden[:, -1:], self.embedding.weight).argmax(-1)

    def fixed_step(self, ids, at, cache):
        return self.next_ids(self.hidden(ids, at, lambda i: cache.fixed_step(i, at)))

    def generate(self, ids, new, cache, step=None):
        """Greedy; `step` is fixed_step, compiled."""
        start = ids.shape[1]
        positions = cache.positions
        ids = self.next_ids(self.hidden(ids, positions[:start], cache.prompt))
        out = [ids]
        for at in range(start, start + new - 1):
            if step is None:
                ids = self.next_ids(self.hidden(ids, positions[at:at + 1], lambda i, at=at: cache.step(i, at)))
            else:
                ids = step(ids, positions[at:at + 1], cache).clone()
            out.append(ids)
        return torch.cat(out, 1)
