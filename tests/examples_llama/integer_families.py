#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny random models whose linear layers GPTQ, AWQ or compressed-tensors has packed, and what they compute, in float64.

    integer_families.py FOLDER    writes FOLDER/NAME/ and FOLDER/NAME.expected.safetensors as families.py does

Needs numpy. The models are those of families.py, the layouts those of tests/io/integer_weights.py.
"""
import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "io")]
import families as f  # noqa: E402
import integer_weights as w  # noqa: E402

f.D, f.H, f.NH, f.NK, f.HD, f.V = 64, 96, 4, 2, 16, 96
SIZES = dict(hidden_size=f.D, intermediate_size=f.H, num_attention_heads=f.NH, num_key_value_heads=f.NK, vocab_size=f.V,
             head_dim=f.HD)
WHOLE = f.floats
f.floats = lambda a: WHOLE(a) if a.dtype == np.uint16 else a.astype(np.float64)


def packed(name, a, group, bits, act_order, scale, lowest=0):
    """The layer nearest to these numbers, roughly: codes of a scale a group."""
    a, (m, n) = WHOLE(a), a.shape
    layer = w.layer(m, n, bits, group, scale, act_order, lowest=lowest)
    for g in range(layer["scales"].shape[1]):
        part = a[:, layer["index"] == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        layer["scales"][:, g] = w.bf16((high - low) / (2 ** bits - 1)).astype(np.float16)
        layer["zeros"][:, g] = np.clip(np.round(-low / layer["scales"][:, g]), 0, 2 ** bits - 1)
    step, zero = layer["scales"][:, layer["index"]], layer["zeros"][:, layer["index"]]
    layer["codes"] = np.clip(np.round(a / step) + zero, 0, 2 ** bits - 1).astype(int)
    return layer


def family(root, name, config, quantization, pack, arch=None, group=32, bits=4, act_order=False, scale="F16", zero_biases=False,
           beside=None, keep=()):
    arch, c = arch or {}, {**f.BASE, **SIZES, **config}
    t, ids = f.weights(c, arch), f.rng.integers(0, f.V, f.N)
    stored = {}
    for key in list(t):
        module = key[:-len(".weight")]
        if not key.endswith("_proj.weight") and key not in keep:
            stored[key] = ("BF16", WHOLE(t[key]))
            continue
        layer = packed(module, t[key], group, bits, act_order, scale)
        t[key] = w.values(layer)
        stored.update(pack(module, layer))
        if zero_biases:
            stored[module + ".bias"] = ("F16", np.zeros(t[key].shape[0]))
    rope = f.frequencies({}, c.get("rope_theta", 10000.0), f.HD, c["max_position_embeddings"])
    logits = f.forward(c, arch, t, ids, lambda i: None, lambda i: rope)
    folder = os.path.join(root, name)
    os.makedirs(folder, exist_ok=True)
    said = c if beside else {**c, "quantization_config": quantization}
    for file, content in [("config.json", said)] + ([(beside, quantization)] if beside else []):
        with open(os.path.join(folder, file), "w") as out:
            json.dump(content, out)
    w.safetensors(folder + "/model.safetensors", stored)
    w.safetensors(folder + ".expected.safetensors", {"ids": ("I64", ids), "logits": ("F64", logits)})


def main(root):
    llama = dict(model_type="llama")
    family(root, "Gptq", llama, w.gptq_config(4, 32), w.gptq, zero_biases=True, keep=["lm_head.weight"])
    family(root, "GptqActOrder", llama, w.gptq_config(4, 32, True, checkpoint_format="gptq_v2"),
           lambda name, a: w.gptq(name, a, True), act_order=True)
    old = w.gptq_config(8, 0)
    del old["quant_method"]
    family(root, "GptqBeside", llama, old, w.gptq, group=0, bits=8, beside="quantize_config.json")
    family(root, "AwqQwen2", dict(model_type="qwen2", rope_theta=1e6, use_sliding_window=False), w.awq_config(32), w.awq,
           dict(qkv_bias=True))
    family(root, "CompressedPhi3", dict(model_type="phi3", sliding_window=None, rope_scaling=None, attention_bias=False,
                                        resid_pdrop=0.0, embd_pdrop=0.0, original_max_position_embeddings=64),
           w.compressed_config(4, 32, False, "group"), lambda name, a: w.compressed(name, a, "bytes", True), dict(fused=True),
           act_order=True, scale="BF16")
    family(root, "CompressedMixtral", dict(model_type="mixtral", num_local_experts=3, num_experts_per_tok=2, sliding_window=None,
                                           router_jitter_noise=0.0, rope_theta=1e6), w.compressed_config(3, 32, False),
           w.compressed, dict(experts="mixtral"), bits=3, keep=[
               f"model.layers.{i}.block_sparse_moe.experts.{e}.{n}.weight" for i in range(f.L) for e in range(3)
               for n in ("w1", "w2", "w3")])


if __name__ == "__main__":
    main(sys.argv[1])
