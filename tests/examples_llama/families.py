#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny random models in the layout of every family that examples/llama reads, and what they compute, in float64.

    families.py FOLDER    writes FOLDER/NAME/ (config.json, safetensors) and FOLDER/NAME.expected.safetensors: the tokens
                          ids (I64, n) and the logits behind each of them (F64, n x vocab)

Needs numpy. Written from the published models and the conventions of Hugging Face's files (heads turn in halves), not
from the engine that is tested with it.
"""
import json
import math
import os
import struct
import sys

import numpy as np

rng = np.random.default_rng(20)
D, H, L, NH, NK, HD, V, N = 48, 60, 3, 4, 2, 12, 97, 40
BASE = dict(hidden_size=D, intermediate_size=H, num_hidden_layers=L, num_attention_heads=NH, num_key_value_heads=NK,
            vocab_size=V, max_position_embeddings=64, rms_norm_eps=1e-5, hidden_act="silu", torch_dtype="bfloat16",
            use_cache=True, initializer_range=0.02, bos_token_id=1, eos_token_id=2, transformers_version="4.53.0")


# Numbers and files

def bf16(a):
    u = np.asarray(a, np.float32).view(np.uint32)
    return ((u + 0x7fff + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def floats(u):
    return (u.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def safetensors(path, tensors):
    header, offset, blobs = {}, 0, []
    for name, (dtype, a) in tensors.items():
        blob = a.tobytes()
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def model_files(folder, tensors, shards):
    halves = {name: ("BF16", a) for name, a in tensors.items()}
    if shards == 1:
        return safetensors(folder + "/model.safetensors", halves)
    names, index = list(halves), {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: halves[n] for n in names[s::shards]}
        safetensors(folder + "/" + file, part)
        index.update({n: file for n in part})
    with open(folder + "/model.safetensors.index.json", "w") as file:
        json.dump({"metadata": {}, "weight_map": index}, file)


# Weights

def linear(rows, cols, scale=1.0):
    return rng.standard_normal((rows, cols)) * scale / math.sqrt(cols)


def weights(c, arch):
    """Tensors by Hugging Face's names."""
    hd, plus = c.get("head_dim", D // NH), 0.0 if arch.get("one_plus") else 1.0
    norm = lambda n, spread=.3: plus + rng.standard_normal(n) * spread
    t = {"model.embed_tokens.weight": rng.standard_normal((V, D)) * arch.get("embedding", 1.0)}

    def biased(name, rows, cols, bias, scale=1.0):
        t[name + ".weight"] = linear(rows, cols, scale)
        if bias:
            t[name + ".bias"] = rng.standard_normal(rows)

    def network(name, hidden, bias=False, names=("gate_proj", "up_proj", "down_proj")):
        biased(name + names[0], hidden, D, bias)
        biased(name + names[1], hidden, D, bias)
        biased(name + names[2], D, hidden, bias)

    for i in range(L):
        p = f"model.layers.{i}."
        for n in ["input_layernorm", "post_attention_layernorm"] + \
                (["pre_feedforward_layernorm", "post_feedforward_layernorm"] if arch.get("post_norms") else []):
            t[p + n + ".weight"] = norm(D)
        qkv, out = arch.get("qkv_bias") or c.get("attention_bias"), c.get("attention_bias")
        if arch.get("fused"):
            t[p + "self_attn.qkv_proj.weight"] = linear((NH + 2 * NK) * hd, D, 2)
        else:
            biased(p + "self_attn.q_proj", NH * hd, D, qkv, 2)
            biased(p + "self_attn.k_proj", NK * hd, D, qkv, 2)
            biased(p + "self_attn.v_proj", NK * hd, D, qkv)
        biased(p + "self_attn.o_proj", D, NH * hd, out)
        if arch.get("head_norms"):
            t[p + "self_attn.q_norm.weight"], t[p + "self_attn.k_norm.weight"] = norm(hd), norm(hd)
        if arch.get("experts") and sparse(c, i):
            count = c.get("num_experts", c.get("num_local_experts"))
            if arch["experts"] == "mixtral":
                t[p + "block_sparse_moe.gate.weight"] = linear(count, D, 2)
                for e in range(count):
                    network(p + f"block_sparse_moe.experts.{e}.", H, names=("w1", "w3", "w2"))
            else:
                t[p + "mlp.gate.weight"] = linear(count, D, 2)
                for e in range(count):
                    network(p + f"mlp.experts.{e}.", c["moe_intermediate_size"])
                if c.get("shared_expert_intermediate_size"):
                    network(p + "mlp.shared_expert.", c["shared_expert_intermediate_size"])
                    t[p + "mlp.shared_expert_gate.weight"] = linear(1, D)
        elif arch.get("fused"):
            t[p + "mlp.gate_up_proj.weight"], t[p + "mlp.down_proj.weight"] = linear(2 * H, D), linear(D, H)
        else:
            network(p + "mlp.", H, c.get("mlp_bias"))
    t["model.norm.weight"] = norm(D)
    if not tied(c, arch):
        t["lm_head.weight"] = linear(V, D, 2)
    return {name: bf16(a) for name, a in t.items()}


def tied(c, arch):
    return c.get("tie_word_embeddings", arch.get("tied", False))


def sparse(c, i):
    return i not in c.get("mlp_only_layers", []) and (i + 1) % c.get("decoder_sparse_step", 1) == 0


# Rotary embedding

def frequencies(said, base, dim, context):
    """(radians a token of each pair, the factor of cosine and sine)"""
    base = said.get("rope_theta", base)
    kind = said.get("rope_type", said.get("type", "default"))
    f = 1.0 / base ** (np.arange(0, dim, 2, dtype=np.float64) / dim)
    if kind == "default":
        return f, 1.0
    factor = said["factor"]
    if kind == "linear":
        return f / factor, 1.0
    old = said.get("original_max_position_embeddings", context)
    if kind == "llama3":
        low, high, wave = said["low_freq_factor"], said["high_freq_factor"], 2 * math.pi / f
        smooth = (old / wave - low) / (high - low)
        medium = (1 - smooth) * f / factor + smooth * f
        return np.where(wave > old / low, f / factor, np.where(wave < old / high, f, medium)), 1.0
    assert kind == "yarn"
    scale = lambda m: 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0
    pair = lambda turns: dim * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(base))
    low, high = pair(said.get("beta_fast", 32)), pair(said.get("beta_slow", 1))
    if said.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / ((high - low) or 0.001), 0, 1)
    attention = said.get("attention_factor")
    if attention is None:
        both = said.get("mscale") and said.get("mscale_all_dim")
        attention = scale(said["mscale"]) / scale(said["mscale_all_dim"]) if both else scale(1)
    return f / factor * ramp + f * (1 - ramp), attention


def turned(x, f, attention):
    """x: tokens x heads x head_dim; its first 2 len(f) numbers turn, number i with i + len(f)."""
    pairs, angle = len(f), np.arange(len(x))[:, None, None] * f
    c, s = np.cos(angle) * attention, np.sin(angle) * attention
    a, b, rest = x[..., :pairs], x[..., pairs:2 * pairs], x[..., 2 * pairs:]
    return np.concatenate([a * c - b * s, b * c + a * s, rest], -1)


# The forward pass

def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def forward(c, arch, t, ids, window_of, rope_of):
    g = lambda name: floats(t[name])
    hd, n = c.get("head_dim", D // NH), len(ids)
    rms = lambda x, name: x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"]) * \
        (g(name) + (1.0 if arch.get("one_plus") else 0.0))
    gelu = lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))
    act = gelu if arch.get("gelu") else lambda x: x / (1 + np.exp(-x))
    cap = lambda x, key: x if c.get(key) is None else c[key] * np.tanh(x / c[key])

    def apply(name, x):
        y = x @ g(name + ".weight").T
        return y + g(name + ".bias") if name + ".bias" in t else y

    def network(name, x, names=("gate_proj", "up_proj", "down_proj")):
        return apply(name + names[2], act(apply(name + names[0], x)) * apply(name + names[1], x))

    def mixture(p, x, names):
        count, top = c.get("num_experts", c.get("num_local_experts")), c["num_experts_per_tok"]
        p_all, y = softmax(x @ g(p + "gate.weight").T), np.zeros_like(x)
        for token in range(n):
            chosen = np.argsort(-p_all[token])[:top]
            weight = p_all[token][chosen]
            if arch["experts"] == "mixtral" or c.get("norm_topk_prob"):
                weight = weight / weight.sum()
            for e, w in zip(chosen, weight):
                y[token] += w * network(p + f"experts.{e}.", x[token], names)
        if c.get("shared_expert_intermediate_size"):
            y += network(p + "shared_expert.", x) / (1 + np.exp(-(x @ g(p + "shared_expert_gate.weight").T)))
        return y

    x = g("model.embed_tokens.weight")[ids]
    if arch.get("scaled"):
        root = math.sqrt(D)
        x = x * (root if c.get("torch_dtype", c.get("dtype")) == "float32" else floats(bf16(np.array([root])))[0])
    for i in range(L):
        p = f"model.layers.{i}."
        h = rms(x, p + "input_layernorm.weight")
        if arch.get("fused"):
            q, k, v = np.split(h @ g(p + "self_attn.qkv_proj.weight").T, [NH * hd, (NH + NK) * hd], -1)
        else:
            q, k, v = (apply(p + f"self_attn.{m}_proj", h) for m in "qkv")
        q, k, v = q.reshape(n, NH, hd), k.reshape(n, NK, hd), v.reshape(n, NK, hd)
        if arch.get("head_norms"):
            q, k = rms(q, p + "self_attn.q_norm.weight"), rms(k, p + "self_attn.k_norm.weight")
        rope = rope_of(i)
        if rope is not None:
            q, k = turned(q, *rope), turned(k, *rope)
        out, position, window = np.zeros((n, NH, hd)), np.arange(n), window_of(i)
        distance = position[:, None] - position[None, :]
        seen = (distance >= 0) & (distance < (window or n))
        for head in range(NH):
            kv = head // (NH // NK)
            scores = q[:, head] @ k[:, kv].T / math.sqrt(c.get("query_pre_attn_scalar", hd))
            out[:, head] = softmax(np.where(seen, cap(scores, "attn_logit_softcapping"), -np.inf)) @ v[:, kv]
        a = apply(p + "self_attn.o_proj", out.reshape(n, -1))
        x = x + (rms(a, p + "post_attention_layernorm.weight") if arch.get("post_norms") else a)
        h = rms(x, p + ("pre_feedforward_layernorm" if arch.get("post_norms") else "post_attention_layernorm") + ".weight")
        if arch.get("experts") == "mixtral":
            f = mixture(p + "block_sparse_moe.", h, ("w1", "w3", "w2"))
        elif arch.get("experts") and sparse(c, i):
            f = mixture(p + "mlp.", h, ("gate_proj", "up_proj", "down_proj"))
        elif arch.get("fused"):
            gate, up = np.split(h @ g(p + "mlp.gate_up_proj.weight").T, 2, -1)
            f = apply(p + "mlp.down_proj", act(gate) * up)
        else:
            f = network(p + "mlp.", h)
        x = x + (rms(f, p + "post_feedforward_layernorm.weight") if arch.get("post_norms") else f)
    x = rms(x, "model.norm.weight")
    logits = x @ g("model.embed_tokens.weight" if tied(c, arch) else "lm_head.weight").T
    return cap(logits, "final_logit_softcapping")


# The families

def family(root, name, config, arch=None, windows=None, ropes=None, shards=1, rename=None, files=None):
    """windows: the window of each layer, or none; ropes: what "rope_scaling" would say of each layer, and its base."""
    arch, c = arch or {}, {**BASE, **config}
    t, ids = weights(c, arch), rng.integers(0, V, N)
    dim = int(c.get("head_dim", D // NH) * c.get("partial_rotary_factor", 1.0))
    of = ropes or [(c.get("rope_scaling") or c.get("rope_parameters") or {}, c.get("rope_theta", 10000.0))] * L
    rope_of = lambda i: None if of[i] is None else frequencies(of[i][0], of[i][1], dim, c["max_position_embeddings"])
    logits = forward(c, arch, t, ids, lambda i: (windows or [None] * L)[i], rope_of)
    folder = os.path.join(root, name)
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/config.json", "w") as file:
        json.dump(files(c) if files else c, file, indent=1)
    stored = {rename(n) if rename else n: a for n, a in t.items()}
    if arch.get("twice"):
        stored["lm_head.weight"] = stored["model.embed_tokens.weight"]
    if files:
        stored["vision_tower.patches.weight"] = bf16(np.ones((2, 2)))
    model_files(folder, stored, shards)
    safetensors(folder + ".expected.safetensors", {"ids": ("I64", ids), "logits": ("F64", logits)})


GEMMA = dict(one_plus=True, scaled=True, gelu=True, tied=True, embedding=.3)
GEMMA3 = dict(GEMMA, post_norms=True, head_norms=True)
QWEN_MOE = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=20, decoder_sparse_step=1,
                mlp_only_layers=[], output_router_logits=False, router_aux_loss_coef=.001, use_sliding_window=False,
                sliding_window=8, max_window_layers=1)
LOCAL = ["sliding_attention", "full_attention", "sliding_attention"]


def gemma3(**more):
    return dict(model_type="gemma3_text", head_dim=16, hidden_activation="gelu_pytorch_tanh", rope_theta=1e6,
                rope_local_base_freq=10000.0, query_pre_attn_scalar=20, sliding_window=7, attention_bias=False, **more)


def outer(c):
    """The config of a model that reads pictures, which says less of its text part than one of text alone."""
    said = {k: c[k] for k in c if k not in ("torch_dtype", "bos_token_id", "eos_token_id")}
    return dict(architectures=["Gemma3ForConditionalGeneration"], model_type="gemma3", text_config=said,
                vision_config={"model_type": "siglip_vision_model"}, mm_tokens_per_image=256, torch_dtype="bfloat16",
                boi_token_index=3, eoi_token_index=4, image_token_index=5, eos_token_id=[1, 106])


def main(root):
    llama = lambda **more: dict(model_type="llama", **more)
    family(root, "Llama2", llama(), shards=2)
    family(root, "LlamaBiases", llama(attention_bias=True, mlp_bias=True, head_dim=20, tie_word_embeddings=True))
    family(root, "Llama3", llama(rope_theta=500000.0, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)))
    family(root, "LlamaLinear", llama(rope_scaling=dict(type="linear", factor=4.0)))
    family(root, "LlamaNewConfig", llama(dtype="bfloat16", rope_parameters=dict(
        rope_type="llama3", rope_theta=50000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)))
    family(root, "SmolLM2", llama(tie_word_embeddings=True, rope_theta=100000, rope_interleaved=False,
                                  is_llama_config=True), dict(twice=True))
    family(root, "Mistral", dict(model_type="mistral", sliding_window=7), windows=[7] * L)
    family(root, "MistralNoWindow", dict(model_type="mistral", sliding_window=None, head_dim=20, rope_theta=1e6))
    family(root, "Mixtral", dict(model_type="mixtral", num_local_experts=5, num_experts_per_tok=2, sliding_window=None,
                                 router_jitter_noise=0.0, rope_theta=1e6), dict(experts="mixtral"), shards=3)
    qwen2 = dict(model_type="qwen2", rope_theta=1e6, sliding_window=9, max_window_layers=1)
    family(root, "Qwen2", dict(qwen2, use_sliding_window=False, use_mrope=False), dict(qkv_bias=True))
    family(root, "Qwen2Window", dict(qwen2, use_sliding_window=True), dict(qkv_bias=True), windows=[None, 9, 9])
    family(root, "Qwen2LayerTypes", dict(qwen2, use_sliding_window=True, layer_types=LOCAL), dict(qkv_bias=True),
           windows=[9, None, 9])
    family(root, "Qwen2Yarn", dict(qwen2, use_sliding_window=False, tie_word_embeddings=True, rope_scaling=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=16)), dict(qkv_bias=True))
    qwen3 = dict(model_type="qwen3", head_dim=16, rope_theta=1e6, attention_bias=False, use_sliding_window=False,
                 sliding_window=None, max_window_layers=3)
    family(root, "Qwen3", qwen3, dict(head_norms=True), shards=2)
    family(root, "Qwen3Yarn", dict(qwen3, rope_scaling=dict(
        rope_type="yarn", factor=8.0, original_max_position_embeddings=12, beta_fast=4, beta_slow=.5, mscale=1.5,
        mscale_all_dim=.5, truncate=False)), dict(head_norms=True))
    family(root, "Qwen3YarnFactor", dict(qwen3, attention_bias=True, rms_norm_eps=1e-2, rope_scaling=dict(
        rope_type="yarn", factor=2.0, attention_factor=1.3)), dict(head_norms=True))
    family(root, "Qwen2Moe", dict(model_type="qwen2_moe", shared_expert_intermediate_size=28, norm_topk_prob=False,
                                  **QWEN_MOE), dict(qkv_bias=True, experts="qwen"))
    family(root, "Qwen3Moe", dict(model_type="qwen3_moe", head_dim=16, norm_topk_prob=True, attention_bias=False,
                                  **dict(QWEN_MOE, mlp_only_layers=[2])), dict(head_norms=True, experts="qwen"))
    family(root, "Qwen3MoeStep", dict(model_type="qwen3_moe", norm_topk_prob=False,
                                      **dict(QWEN_MOE, decoder_sparse_step=2)), dict(head_norms=True, experts="qwen"))
    family(root, "Gemma", dict(model_type="gemma", head_dim=16, hidden_act="gelu", hidden_activation=None), GEMMA)
    family(root, "GemmaFloat", dict(model_type="gemma", head_dim=16, hidden_activation="gelu_pytorch_tanh",
                                    torch_dtype="float32"), GEMMA)
    family(root, "Gemma2", dict(model_type="gemma2", head_dim=16, hidden_act="gelu_pytorch_tanh", sliding_window=6,
                                hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24, cache_implementation="hybrid",
                                attn_logit_softcapping=3.0, final_logit_softcapping=4.0), dict(GEMMA, post_norms=True),
           windows=[6, None, 6])
    local, far = ({}, 10000.0), (dict(rope_type="linear", factor=8.0), 1e6)
    family(root, "Gemma3", gemma3(sliding_window_pattern=2, rope_scaling=far[0], final_logit_softcapping=None), GEMMA3,
           windows=[7, None, 7], ropes=[local, far, local])
    nested = dict(full_attention=dict(far[0], rope_theta=1e6), sliding_attention=dict(rope_type="default", rope_theta=5000.0))
    family(root, "Gemma3NewConfig", gemma3(layer_types=LOCAL[::-1][1:] + LOCAL[:1], _sliding_window_pattern=6,
                                           rope_parameters=nested, use_bidirectional_attention=False), GEMMA3,
           windows=[None, 7, 7], ropes=[far, ({}, 5000.0), ({}, 5000.0)])
    for name, body in (("Gemma3Vision", "language_model.model."), ("Gemma3NewVision", "model.language_model.")):
        family(root, name, gemma3(sliding_window_pattern=3), GEMMA3, windows=[7, 7, None],
               ropes=[local, local, ({}, 1e6)], rename=lambda n: n.replace("model.", body, 1), files=outer)
    family(root, "Phi3", dict(model_type="phi3", sliding_window=9, rope_scaling=None, attention_bias=False,
                              resid_pdrop=0.0, embd_pdrop=0.0, original_max_position_embeddings=64), dict(fused=True),
           windows=[9] * L)
    family(root, "Phi4Partial", dict(model_type="phi3", sliding_window=None, partial_rotary_factor=.5, head_dim=16,
                                     tie_word_embeddings=True, full_attn_mod=1, interpolate_factor=1), dict(fused=True))
    smol = dict(model_type="smollm3", rope_theta=5e6, tie_word_embeddings=True, mlp_bias=False, attention_bias=False,
                max_window_layers=28, pretraining_tp=2)
    turns = ({}, 5e6)
    family(root, "SmolLM3", dict(smol, no_rope_layers=[1, 0, 1], no_rope_layer_interval=4, use_sliding_window=False,
                                 sliding_window=None, layer_types=["full_attention"] * L), dict(tied=True),
           ropes=[turns, None, turns])
    family(root, "SmolLM3Interval", dict(smol, no_rope_layer_interval=3, use_sliding_window=True, sliding_window=8),
           dict(tied=True), windows=[None, None, 8], ropes=[turns, turns, None])
    family(root, "GemmaBiases", dict(model_type="gemma", head_dim=16, attention_bias=True, hidden_act="gelu_pytorch_tanh"),
           GEMMA)


if __name__ == "__main__":
    main(sys.argv[1])
