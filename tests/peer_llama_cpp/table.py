#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""KL divergence at equal bytes, as llama.cpp computes it: its own quantizer without and with importance, and gosset's
roundings in the same types.

    table.py CONVERT JUDGE LIBRARIES MODEL CALIBRATION TEXT TOKENS [TYPE...]

MODEL is a Hugging Face folder, CALIBRATION a text that both importance and second moments come from, TEXT another one,
of which so many tokens are measured. LIBRARIES: as run.py has it. In the environment: CALIBRATION, how many tokens (60000), and
TOKENIZER, where MODEL has none beside it.
"""
import os
import subprocess
import sys
import tempfile

FILE_TYPES = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q8_0": 7, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q4_K_S": 14, "Q4_K_M": 15, "IQ4_XS": 30, "IQ4_NL": 25}


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def main():
    if len(sys.argv) < 8:
        sys.exit(__doc__)
    convert, judge, libraries, model, calibration, text, tokens, *types = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        common = [convert, "--model", model, "--text", calibration, "--calibration", os.environ.get("CALIBRATION", "60000")]
        tokenizer = os.environ.get("TOKENIZER")
        if tokenizer:
            common += ["--tokenizer", tokenizer]
        types = types or ["Q4_0", "Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_XS"]
        run(*common, "--type", "F32", "--rounding", "nearest", "--out", at("exact.gguf"))
        run(*common, "--type", ",".join(types + ["F16"]), "--rounding", "nearest", "--out", at("nearest"))
        said = run(*common, "--type", ",".join(types + ["F16"]), "--imatrix", at("imatrix.gguf"), "--out", at("gptq"))
        print("| | bits | plain | with importance | `nearest` | `gptq` | of importance |\n|" + "---|" * 7)
        for kind in types:
            files = [at("plain.gguf"), at("important.gguf"), at(f"nearest/{kind}.gguf"), at(f"gptq/{kind}.gguf")]
            number = FILE_TYPES[kind]
            run(judge, libraries, "quantize", at("exact.gguf"), files[0], number, "mixed")
            run(judge, libraries, "quantize", at("exact.gguf"), files[1], number, "mixed", at("imatrix.gguf"))
            kl = [float(row.split()[0]) for row in
                  run(judge, libraries, "kl", at("exact.gguf"), text, tokens, *files).splitlines()]
            sizes = {os.path.getsize(path) for path in files}
            if max(sizes) - min(sizes) > 4096:  # what the metadata says may differ
                print(f"{kind}: files of {sorted(sizes)} bytes are not equal")
            bits = next(line for line in said.splitlines() if f"/{kind}.gguf:" in line).split()[-3]
            print(f"| `{kind}` | {bits} | " + " | ".join(f"{x:.5f}" for x in kl) + f" | {kl[3] / kl[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
