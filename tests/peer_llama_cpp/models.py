#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of every family that llama.cpp knows, too, wide enough for blocks of 256 numbers, with tokenizers.

    models.py FOLDER

Writes FOLDER/NAME/ (config.json, safetensors, tokenizer.json, tokenizer_config.json) for each. What these models do is
what GGUF files can say: families.py has more. Needs numpy.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples_llama"))
import families as f  # noqa: E402

f.D, f.H, f.L, f.NH, f.NK, f.HD, f.V, f.N = 256, 256, 2, 8, 4, 32, 420, 2
f.BASE.update(hidden_size=f.D, intermediate_size=f.H, num_hidden_layers=f.L, num_attention_heads=f.NH,
              num_key_value_heads=f.NK, vocab_size=f.V, max_position_embeddings=64)
MARK = "\u2581"
WORDS = ["th", "the", "an", "and", "in", "ing", "on", "once", "up", "upon", "re", "er"]


def merges_for(words, known):
    """Merges that make the words, letter by letter, and all tokens between."""
    merges, tokens = [], []
    for word in words:
        for i in range(2, len(word) + 1):
            pair = (word[:i - 1], word[i - 1])
            if word[:i] not in known and word[:i] not in tokens:
                tokens.append(word[:i])
                merges.append(list(pair))
    return merges, tokens


def byte_letters():
    """The letters that stand for bytes (GPT-2's bytes_to_unicode)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xa1, 0xad), *range(0xae, 0x100)]
    rest = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(rest)) for b in range(256)]


def added(ids):
    return [{"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True} for name, i in ids.items()]


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def gpt4(digits):
    return split(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits +
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(digits, composed, ignore, begin, end):
    letters = byte_letters()
    merges, more = merges_for(WORDS + ["\u0120" + w for w in WORDS], set(letters))
    names = letters + more
    special = {begin: len(names), end: len(names) + 1}
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(special),
            "normalizer": {"type": "NFC"} if composed else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [gpt4(digits), step]}, "post_processor": None,
            "decoder": dict(step, use_regex=True),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore,
                      "vocab": {n: i for i, n in enumerate(names)}, "merges": [" ".join(m) for m in merges]}}


def pieces(begin, end, prefix):
    names = ["<unk>", begin, end] + [f"<0x{b:02X}>" for b in range(256)]
    letters = [MARK] + [chr(c) for c in range(ord("!"), ord("~") + 1)]
    merges, more = merges_for(WORDS + [MARK + w for w in WORDS], set(letters))
    names += letters + more
    steps = ([{"type": "Prepend", "prepend": MARK}] if prefix else []) + \
        [{"type": "Replace", "pattern": {"String": " "}, "content": MARK}]
    decoders = [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}] + ([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else [])
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": added({"<unk>": 0, begin: 1, end: 2}),
            "normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": {n: i for i, n in enumerate(names[:f.V])}, "merges": merges}}


LLAMA3 = byte_level(r"\p{N}{1,3}", False, True, "<|begin_of_text|>", "<|end_of_text|>")
QWEN = byte_level(r"\p{N}", True, False, "<|im_start|>", "<|im_end|>")
SPM, GEMMA = pieces("<s>", "</s>", True), pieces("<bos>", "<eos>", False)
CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def model(root, name, config, arch=None, tokenizer=None, begin=None, end=None, template=None):
    f.family(root, name, dict(config, torch_dtype="float32"), arch)
    os.remove(os.path.join(root, name + ".expected.safetensors"))
    folder = os.path.join(root, name)
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        json.dump(tokenizer, file)
    said = {"add_bos_token": begin is not None, "eos_token": end}
    if begin:
        said["bos_token"] = begin
    if template:
        said["chat_template"] = template
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump(said, file)


def main(root):
    llama3 = dict(tokenizer=LLAMA3, begin="<|begin_of_text|>", end="<|end_of_text|>")
    qwen = dict(tokenizer=QWEN, end="<|im_end|>", template=CHATML)
    spm, gemma = dict(tokenizer=SPM, begin="<s>", end="</s>"), dict(tokenizer=GEMMA, begin="<bos>", end="<eos>")
    # The ends of files that f.BASE names are other tokens here.
    for key in ("bos_token_id", "eos_token_id"):
        f.BASE.pop(key, None)
    model(root, "llama", dict(model_type="llama"), **spm)
    model(root, "llama3", dict(model_type="llama", rope_theta=500000.0, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)), **llama3)
    model(root, "llama_biases", dict(model_type="llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                                     rope_scaling=dict(type="linear", factor=4.0)), **llama3)
    model(root, "mistral", dict(model_type="mistral", sliding_window=None), **spm)
    model(root, "mixtral", dict(model_type="mixtral", sliding_window=None, num_local_experts=4, num_experts_per_tok=2),
          dict(experts="mixtral"), **spm)
    model(root, "qwen2", dict(model_type="qwen2", tie_word_embeddings=True, rope_theta=1e6), dict(qkv_bias=True), **qwen)
    moe = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=256, decoder_sparse_step=1, mlp_only_layers=[])
    model(root, "qwen2_moe", dict(moe, model_type="qwen2_moe", shared_expert_intermediate_size=256,
                                  norm_topk_prob=False), dict(qkv_bias=True, experts="qwen"), **qwen)
    model(root, "qwen3", dict(model_type="qwen3", head_dim=64, rope_theta=1e6), dict(head_norms=True), **qwen)
    model(root, "qwen3_moe", dict(moe, model_type="qwen3_moe", head_dim=32, norm_topk_prob=True),
          dict(head_norms=True, experts="qwen"), **qwen)
    model(root, "gemma", dict(model_type="gemma", head_dim=32, hidden_activation="gelu_pytorch_tanh"), f.GEMMA, **gemma)
    model(root, "gemma2", dict(model_type="gemma2", head_dim=32, hidden_activation="gelu_pytorch_tanh", sliding_window=6,
                               query_pre_attn_scalar=32, attn_logit_softcapping=3.0, final_logit_softcapping=4.0),
          dict(f.GEMMA, post_norms=True), **gemma)
    model(root, "gemma3", f.gemma3(sliding_window_pattern=2) | dict(query_pre_attn_scalar=32, head_dim=32), f.GEMMA3,
          **gemma)
    model(root, "phi3", dict(model_type="phi3", sliding_window=None), dict(fused=True), **spm)
    model(root, "phi4_partial", dict(model_type="phi3", sliding_window=None, partial_rotary_factor=.5,
                                     tie_word_embeddings=True), dict(fused=True), **spm)
    f.L = 4
    f.BASE.update(num_hidden_layers=4)
    model(root, "smollm3", dict(model_type="smollm3", rope_theta=5e6, no_rope_layer_interval=4), dict(tied=True),
          **llama3)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
