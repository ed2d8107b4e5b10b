#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a tokenizer.json of a vocabulary in GGUF, as the test data of llama.cpp has them:

    vocabulary_json.py qwen2.gguf tokenizer.json

GGUF names the pre-tokenizer and leaves its patterns to the reader: they stand below, as the models' own files have them
(llama.cpp's src/llama-vocab.cpp names the same). A SentencePiece vocabulary has scores in place of merges; its merges
are made as transformers makes them (convert_slow_tokenizer.py: every pair of tokens that is a token, the highest score
first). A vocabulary that is neither is refused.
"""
import json
import struct
import sys

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def byte_level(words):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": words}


def digits(each):
    return {"type": "Digits", "individual_digits": each}


def words(number, begin=CONTRACTIONS + "|"):
    """The patterns of GPT-4 and those after it, which differ in how many digits stay together."""
    return split(begin + r"[^\r\n\p{L}\p{N}]?\p{L}+|" + number +
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cased(number, end=""):
    """Words cut where a capital follows a small letter."""
    first = r"[^\r\n\p{L}\p{N}]?"
    return split(f"{first}{UPPER}*{LOWER}+{end}|{first}{UPPER}+{LOWER}*{end}|{number}"
                 r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


# DeepSeek LLM's letters with case, as ranges: its file has them as characters.
DEEPSEEK_LETTERS = "".join(f"\\x{{{part.replace('-', '}-' + chr(92) + 'x{')}}}" for part in """
    41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376-377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5
    3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15
    1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc
    1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d
    212f-2134 2139 213c-213f 2145-2149 214e 2183-2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2-2cf3 a640-a66d a680-a69b
    a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb
    10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943""".split())
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DIGIT_WORDS = [digits(True), byte_level(True)]
PRE_TOKENIZERS = {
    "gpt-2": [byte_level(True)],
    "mpt": [byte_level(True)],
    "olmo": [byte_level(True)],
    "phi-2": [byte_level(True)],
    "jais": [byte_level(True)],
    "starcoder": DIGIT_WORDS,
    "refact": DIGIT_WORDS,
    "command-r": DIGIT_WORDS,
    "smollm": DIGIT_WORDS,
    "codeshell": DIGIT_WORDS,
    "exaone": DIGIT_WORDS,
    "minerva-7b": DIGIT_WORDS,
    "falcon": [{"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True), digits(False),
               split("[0-9][0-9][0-9]")],
    "llama-bpe": [words(r"\p{N}{1,3}"), byte_level(False)],
    "llama3": [words(r"\p{N}{1,3}"), byte_level(False)],
    "dbrx": [words(r"\p{N}{1,3}"), byte_level(False)],
    "smaug-bpe": [words(r"\p{N}{1,3}"), byte_level(False)],
    "chatglm-bpe": [words(r"\p{N}{1,3}"), byte_level(False)],
    "qwen2": [words(r"\p{N}"), byte_level(False)],
    "deepseek-r1-qwen": [words(r"\p{N}"), byte_level(False)],
    "stablelm2": [words(r"\p{N}"), byte_level(False)],
    "megrez": [words(r"\p{N}"), byte_level(False)],
    "tekken": [cased(r"\p{N}"), byte_level(False)],
    "gpt-4o": [cased(r"\p{N}{1,3}", CONTRACTIONS + "?"), byte_level(False)],
    "deepseek-llm": [split("[\r\n]"), split(rf"\s?[{DEEPSEEK_LETTERS}]+"),
                     split(r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+"), split(r"\s+$"), split(CJK), digits(True), byte_level(False)],
    "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK), digits(True),
                       byte_level(False)],
    "deepseek-v3": [split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                    split(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"""
                          "\r\n" r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["
                          "\r\n" r"]*|\s*[" "\r\n" r"]+|\s+(?!\S)|\s+"), byte_level(False)],
}
COMPOSED = {"qwen2", "deepseek-r1-qwen", "olmo", "mpt", "stablelm2"}  # their texts are normalized to NFC
IGNORE_MERGES = {"llama-bpe", "llama3", "tekken", "chatglm-bpe"}


def read_gguf(path):
    """The metadata of a GGUF file; strings as bytes."""
    with open(path, "rb") as file:
        data = file.read()
    codes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    at, metadata = 24, {}

    def numbers(code, count=1):
        nonlocal at
        values = struct.unpack_from(f"<{count}{code}", data, at)
        at += struct.calcsize(f"<{count}{code}")
        return values

    def string():
        nonlocal at
        size, = numbers("Q")
        at += size
        return data[at - size:at]

    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        key, kind = string().decode(), numbers("I")[0]
        if kind == 8:
            metadata[key] = string()
        elif kind == 9:
            element, count = *numbers("I"), *numbers("Q")
            metadata[key] = [string() for _ in range(count)] if element == 8 else numbers(codes[element], count)
        else:
            metadata[key], = numbers(codes[kind])
    return metadata


def merges_of_scores(tokens, scores):
    """Every pair of tokens that is a token, the highest score first, then by the ids of the pair."""
    ids = {token: i for i, token in enumerate(tokens)}
    merges = []
    for token, score in zip(tokens, scores):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ids and token[i:] in ids]
        merges += [(score, pair) for pair in sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))]
    return [list(pair) for _, pair in sorted(merges, key=lambda merge: merge[0], reverse=True)]


def tokenizer_json(metadata):
    kind = metadata["tokenizer.ggml.model"].decode()
    tokens = [token.decode("utf-8", "replace") for token in metadata["tokenizer.ggml.tokens"]]
    types = metadata["tokenizer.ggml.token_type"]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    added = [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": kind == 3} for i, (token, kind) in enumerate(zip(tokens, types)) if kind in (3, 4)]
    if kind == "llama":
        mark = "\u2581"
        steps = [{"type": "Replace", "pattern": {"String": " "}, "content": mark}]
        if metadata.get("tokenizer.ggml.add_space_prefix", True):
            steps.insert(0, {"type": "Prepend", "prepend": mark})
        unknown = types.index(2)
        decoders = [{"type": "Replace", "pattern": {"String": mark}, "content": " "}, {"type": "ByteFallback"},
                    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": len(steps) - 1, "stop": 0}]
        parts = {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None,
                 "decoder": {"type": "Sequence", "decoders": decoders}}
        model |= {"unk_token": tokens[unknown], "fuse_unk": True, "byte_fallback": True,
                  "merges": merges_of_scores(tokens, metadata["tokenizer.ggml.scores"])}
    elif kind == "gpt2":
        pre = metadata.get("tokenizer.ggml.pre", b"none").decode()
        if pre not in PRE_TOKENIZERS:
            sys.exit(f"the pre-tokenizer {pre} is none of {', '.join(PRE_TOKENIZERS)}")
        steps = PRE_TOKENIZERS[pre]
        parts = {"normalizer": {"type": "NFC"} if pre in COMPOSED else None,
                 "pre_tokenizer": steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps},
                 "decoder": byte_level(True)}
        merges = [merge.decode() for merge in metadata["tokenizer.ggml.merges"]]
        model |= {"ignore_merges": pre in IGNORE_MERGES, "merges": merges}
    else:
        sys.exit(f"a vocabulary of kind {kind} has no merges; gpt2 and llama have")
    model["vocab"] = {token: i for i, token in enumerate(tokens)}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **parts,
            "post_processor": None, "model": model}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        json.dump(tokenizer_json(read_gguf(sys.argv[1])), out, ensure_ascii=False)
