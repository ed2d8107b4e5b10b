#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Linear layers in the layouts of GPTQ, AWQ and compressed-tensors, and the numbers that they stand for.

    integer_weights.py FOLDER    writes FOLDER/NAME/ (config.json with its quantization_config, model.safetensors with the
                                 layer "layer") and FOLDER/NAME.expected.safetensors: values (F32, m x n)

Needs numpy. Written from the conventions of the packers, on strings of bits, and not from the reader that is tested.
"""
import json
import os
import struct
import sys

import numpy as np

rng = np.random.default_rng(13)


def bf16(a):
    """float32 numbers that bfloat16 holds"""
    return (np.asarray(a, np.float32).view(np.uint32) & 0xffff0000).view(np.float32)


def blob(dtype, a):
    if dtype == "BF16":
        return (np.asarray(a, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return np.ascontiguousarray(a).astype({"I32": "<i4", "I64": "<i8", "I8": "i1", "F16": "<f2", "F32": "<f4",
                                           "F64": "<f8"}[dtype]).tobytes()


def safetensors(path, tensors):
    header, offset, blobs = {}, 0, []
    for name, (dtype, a) in tensors.items():
        data = blob(dtype, a)
        header[name] = {"dtype": dtype, "shape": list(np.shape(a)), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        blobs.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


# Words. All of them pack along the last axis.

def stream(numbers, bits):
    """One number right after the other, the lowest bit first."""
    number_bits = (numbers[..., None] >> np.arange(bits)) & 1
    flat = number_bits.reshape(numbers.shape[:-1] + (-1,)).astype(np.uint8)
    return np.packbits(flat, axis=-1, bitorder="little").view("<i4")


def padded_words(numbers, bits):
    """As many whole numbers as a word has room for; the last word is filled up with zeros."""
    per_word = 32 // bits
    pad = [(0, 0)] * (numbers.ndim - 1) + [(0, -numbers.shape[-1] % per_word)]
    words = np.pad(numbers, pad).reshape(numbers.shape[:-1] + (-1, per_word)).astype(np.uint64)
    return (words << (np.arange(per_word, dtype=np.uint64) * np.uint64(bits))).sum(-1).astype(np.uint32).view(np.int32)


def awq_words(numbers):
    eights = numbers.reshape(numbers.shape[:-1] + (-1, 8))[..., [0, 2, 4, 6, 1, 3, 5, 7]]
    return padded_words(eights.reshape(numbers.shape), 4)


# Layers: codes m x n, zeros and scales m x G, index n

def layer(m, n, bits, group, scale="F16", act_order=False, zeros=None, lowest=0):
    """A random one. `group` 0: whole rows."""
    group = group or n
    groups = -(-n // group)
    index = np.arange(n) // group
    if act_order:
        index = index[rng.permutation(n)]
    scales = np.exp(rng.standard_normal((m, groups))).astype(np.float32) / 32
    scales = bf16(scales) if scale == "BF16" else scales.astype(np.float16).astype(np.float32) if scale == "F16" else scales
    z = rng.integers(0, 2 ** bits, (m, groups)) if zeros is None else np.full((m, groups), zeros)
    z.flat[:2] = [0, 2 ** bits - 1] if zeros is None else zeros  # both ends, in any case
    return dict(codes=rng.integers(lowest, 2 ** bits, (m, n)), zeros=z, scales=scales, index=index, bits=bits, scale=scale,
                group=group, n=n)


def values(a):
    return a["scales"][:, a["index"]] * (a["codes"] - a["zeros"][:, a["index"]]).astype(np.float32)


def gptq(name, a, v2=False, index=True):
    zeros = a["zeros"] if v2 else (a["zeros"] - 1) % 2 ** a["bits"]
    tensors = {name + ".qweight": ("I32", stream(a["codes"], a["bits"]).T), name + ".qzeros": ("I32", stream(zeros.T, a["bits"])),
               name + ".scales": (a["scale"], a["scales"].T)}
    if index:
        tensors[name + ".g_idx"] = ("I32", a["index"])
    return tensors


def awq(name, a):
    return {name + ".qweight": ("I32", awq_words(a["codes"].T)), name + ".qzeros": ("I32", awq_words(a["zeros"].T)),
            name + ".scales": (a["scale"], a["scales"].T)}


def compressed(name, a, zeros="packed", index=False, shape="I64"):
    half = 2 ** (a["bits"] - 1)
    tensors = {name + ".weight_packed": ("I32", padded_words(a["codes"], a["bits"])),
               name + ".weight_shape": (shape, np.array(a["codes"].shape)), name + ".weight_scale": (a["scale"], a["scales"])}
    if zeros == "packed":
        tensors[name + ".weight_zero_point"] = ("I32", padded_words(a["zeros"].T, a["bits"]).T)
    if zeros == "bytes":
        tensors[name + ".weight_zero_point"] = ("I8", a["zeros"] - half)
    if index:
        tensors[name + ".weight_g_idx"] = ("I32", np.full(a["n"], -1) if index == "unset" else a["index"])
    return tensors


# What the configs say

def gptq_config(bits, group, act_order=False, **more):
    return dict(quant_method="gptq", bits=bits, group_size=group or -1, desc_act=act_order, sym=False, damp_percent=.01,
                true_sequential=True, **more)


def awq_config(group):
    return dict(quant_method="awq", bits=4, group_size=group or -1, version="gemm", zero_point=True, modules_to_not_convert=None)


def compressed_config(bits, group, symmetric, actorder=None):
    weights = dict(num_bits=bits, type="int", symmetric=symmetric, strategy="group" if group else "channel",
                   group_size=group or None, dynamic=False, actorder=actorder, block_structure=None, observer="minmax",
                   observer_kwargs={})
    return dict(quant_method="compressed-tensors", format="pack-quantized", quantization_status="compressed", version="0.11.0",
                config_groups=dict(group_0=dict(targets=["Linear"], weights=weights, input_activations=None,
                                                output_activations=None)), ignore=["lm_head"], kv_cache_scheme=None)


def case(root, name, config, tensors, a):
    folder = os.path.join(root, name)
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/config.json", "w") as file:
        json.dump({"quantization_config": config}, file)
    safetensors(folder + "/model.safetensors", tensors)
    safetensors(folder + ".expected.safetensors", {"values": ("F32", values(a))})


def main(root):
    for bits in (2, 3, 4, 8):
        a = layer(32, 96, bits, 32)
        case(root, f"Gptq{bits}", gptq_config(bits, 32), gptq("layer", a), a)
        a = layer(64, 160, bits, 32, act_order=True)
        case(root, f"Gptq{bits}ActOrder", gptq_config(bits, 32, True, checkpoint_format="gptq_v2"), gptq("layer", a, True), a)
    a = layer(8, 256, 4, 128)
    case(root, "GptqWithoutIndex", gptq_config(4, 128), gptq("layer", a, index=False), a)
    a = layer(8, 72, 4, 0)
    case(root, "GptqRows", gptq_config(4, 0, pack_dtype="int32", meta={"quantizer": ["gptqmodel:2.0"]}), gptq("layer", a), a)
    a = layer(24, 88, 4, 32, act_order=True, scale="BF16")  # the last group is short
    case(root, "GptqShortGroup", gptq_config(4, 32, True), gptq("layer", a), a)
    a = layer(16, 128, 4, 64, zeros=8, lowest=1)
    case(root, "GptqSymmetric", gptq_config(4, 64), gptq("layer", a), a)
    for group in (32, 0):
        a = layer(40, 64, 4, group)
        case(root, "AwqGroups" if group else "AwqRows", awq_config(group), awq("layer", a), a)
    for bits in (2, 3, 4, 5, 8):
        a = layer(7, 96, bits, 32, zeros=2 ** (bits - 1), scale="BF16")
        case(root, f"Compressed{bits}", compressed_config(bits, 32, True), compressed("layer", a, None), a)
        a = layer(13, 64, bits, 32, scale="F16")
        case(root, f"Compressed{bits}Zeros", compressed_config(bits, 32, False), compressed("layer", a, shape="I32"), a)
    a = layer(9, 96, 4, 32, act_order=True, scale="F32")
    case(root, "CompressedActOrder", compressed_config(4, 32, False, "group"), compressed("layer", a, "bytes", True), a)
    a = layer(9, 96, 4, 32, scale="BF16")
    case(root, "CompressedUnsetIndex", compressed_config(4, 32, False, "weight"), compressed("layer", a, "packed", "unset"), a)
    a = layer(9, 61, 4, 0, scale="BF16")
    case(root, "CompressedRows", compressed_config(4, 0, False), compressed("layer", a), a)


if __name__ == "__main__":
    main(sys.argv[1])
