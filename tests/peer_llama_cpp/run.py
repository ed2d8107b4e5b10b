#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Has llama.cpp judge the GGUF files that examples/llama/convert writes:

    run.py CONVERT JUDGE LIBRARIES

LIBRARIES is the folder of a prebuilt llama.cpp, bins/linux-x64 of the npm package @node-llama-cpp/linux-x64; where it is
empty or not there the judge is skipped, with a text. Every family in several types must load, and give the engine's
logits on the same file; llama.cpp must cut texts into the same tokens, and choose the same types for a mixture. An
importance file, stats/imatrix2.dat of the shared data, must come back from ggml's reader and writer. Prints a table,
type by architecture, of the largest differences of logits, in parts of the largest logit.
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = ["F32", "F16", "Q8_0", "Q4_0", "Q4_K_M", "Q2_K"]
ON_ONE = ["BF16", "Q4_1", "Q5_0", "Q5_1", "Q6_K", "Q5_K_M", "Q3_K_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0"]  # of a Llama
CHOSEN = ["llama", "gemma2", "qwen2_moe", "phi3"]  # whose types a budget chooses
# Of floats the sums differ in order, and Gemma's activation is a table of 16-bit floats there (with the same table in the
# engine Gemma 2 differs by 8e-6 rather than 5e-4); of 16 bits llama.cpp rounds activations, too, and of fewer to 8 bits, in
# groups that depend on its machine; where a router is nearly undecided, that chooses another expert. A layout that is read
# wrong differs by about 1.
MOST = {"F32": 1e-3, "F16": 1e-2, "BF16": 5e-2}
QUANTIZED, EXPERTS = 0.2, 0.6
TEXTS = ["once upon the", " an other  thing", "It's 12345 o'clock, isn't it?", "\t tabs", "Grüße, 世界 🙂", "a" * 40, ""]
SKIPPED = 77
FILE_TYPES = {"Q4_0": 2, "Q2_K": 10, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_XS": 30, "Q3_K_L": 13,
              "Q4_K_S": 14, "TQ2_0": 37}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def types_of(path):
    """The type of each tensor of a GGUF file, by name."""
    import struct
    with open(path, "rb") as file:
        data = file.read()
    sizes, at = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}, 24
    tensors, keys = struct.unpack_from("<QQ", data, 8)

    def string(at):
        size, = struct.unpack_from("<Q", data, at)
        return data[at + 8:at + 8 + size].decode(), at + 8 + size

    def skip(kind, at):
        if kind == 8:
            return string(at)[1]
        if kind != 9:
            return at + sizes[kind]
        element, count = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(count):
            at = skip(element, at)
        return at

    for _ in range(keys):
        _, at = string(at)
        at = skip(struct.unpack_from("<I", data, at)[0], at + 4)
    result = {}
    for _ in range(tensors):
        name, at = string(at)
        rank, = struct.unpack_from("<I", data, at)
        at += 4 + 8 * rank
        result[name], = struct.unpack_from("<I", data, at)
        at += 12
    return result


class Judge:
    def __init__(self, convert, judge, libraries, folder):
        self.convert, self.judge, self.libraries, self.folder = convert, judge, libraries, folder
        self.failures = []

    def file(self, name, kind, *more):
        path = os.path.join(self.folder, f"{name}-{kind}.gguf")
        code, out, err = run(self.convert, "--model", os.path.join(self.folder, name), "--type", kind, "--rounding",
                             "nearest", "--out", path, *more)
        if code != 0:
            self.failures.append(f"{name} {kind}: {err.strip()}")
            return None
        return path

    def chosen(self, name):
        """Types that a budget chooses, and AWQ's scales folded."""
        kind = "budget"
        path = self.file(name, "Q3_K,Q4_K,Q6_K", "--budget", "5", "--awq", "--text", os.path.join(self.folder, "texts"))
        if path is not None and len(set(types_of(path).values())) < 3:  # floats are one
            self.failures.append(f"{name} {kind}: all matrices have one type")
        return self.difference(name, kind, path)

    def difference(self, name, kind, path=None):
        path = path or self.file(name, kind)
        if path is None:
            return "none"
        code, out, err = run(self.judge, self.libraries, "compare", path)
        if code != 0:
            self.failures.append(f"{name} {kind}: {err.strip()}")
            return "refused"
        found = float(out.split()[0])
        most = MOST.get(kind, EXPERTS if os.path.exists(path) and ("moe" in name or name == "mixtral") else QUANTIZED)
        if not found <= most:
            self.failures.append(f"{name} {kind}: logits differ by {found}, at most {most} expected")
        if kind != "F32":
            os.remove(path)
        return f"{found:.1e}"

    def tokens(self, name):
        texts = os.path.join(self.folder, "texts")
        with open(texts, "w", encoding="utf-8") as file:
            file.write("\n".join(TEXTS) + "\n")
        code, out, err = run(self.judge, self.libraries, "tokens", os.path.join(self.folder, f"{name}-F32.gguf"), texts)
        if code != 0:
            self.failures.append(f"{name}: {(out + err).strip()}")
        return out.strip().splitlines()[-1] if out.strip() else "none"

    def mixtures(self, name):
        exact = os.path.join(self.folder, f"{name}-F32.gguf")
        for kind, number in FILE_TYPES.items():
            ours, theirs = self.file(name, kind), os.path.join(self.folder, "theirs.gguf")
            code, _, err = run(self.judge, self.libraries, "quantize", exact, theirs, str(number), "mixed")
            if code != 0 or ours is None:
                self.failures.append(f"{name} {kind}: llama.cpp does not quantize it: {err.strip()}")
                continue
            a, b = types_of(ours), types_of(theirs)
            other = {n: (a.get(n), b.get(n)) for n in sorted(set(a) | set(b)) if a.get(n) != b.get(n)}
            if other:
                self.failures.append(f"{name} {kind}: types of tensors, here and there: {other}")
            os.remove(ours)

    def imatrix(self):
        data = os.environ.get("GOSSET_DATA", os.path.join(HERE, "..", "..", "..", "shared", "data"))
        path = os.path.join(data, "stats", "imatrix2.dat")
        if not os.path.exists(path):
            return f"skipped: no importance file {path} (set GOSSET_DATA)"
        code, out, err = run(self.judge, self.libraries, "imatrix", path, self.folder)
        if code != 0:
            self.failures.append(f"imatrix: {(out + err).strip()}")
        return out.strip()


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    convert, judge, libraries = sys.argv[1:]
    if not libraries or not os.path.isdir(libraries):
        print(f"skipped: no prebuilt llama.cpp in \"{libraries}\" (bins/linux-x64 of the npm package "
              "@node-llama-cpp/linux-x64; set GOSSET_LLAMA_CPP)")
        return SKIPPED
    python = next((name for name in (sys.executable, "/usr/bin/python3") if os.path.exists(name) and
                   run(name, "-c", "import numpy")[0] == 0), None)
    if python is None:
        print("skipped: no python3 with numpy (Debian: python3-numpy)")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, os.path.join(HERE, "models.py"), folder], check=True)
        names = sorted(entry for entry in os.listdir(folder) if os.path.isdir(os.path.join(folder, entry)))
        it = Judge(convert, judge, libraries, folder)
        print("| | " + " | ".join(TYPES) + " | tokens |\n|" + "---|" * (len(TYPES) + 2))
        for name in names:
            cells = [it.difference(name, kind) for kind in TYPES]
            print(f"| {name} | " + " | ".join(cells) + f" | {it.tokens(name)} |", flush=True)
        print(", ".join(f"{kind} {it.difference('llama', kind)}" for kind in ON_ONE))
        print("types by budget, with AWQ:", ", ".join(f"{name} {it.chosen(name)}" for name in CHOSEN))
        for name in ("llama", "mixtral", "phi3", "qwen2"):
            it.mixtures(name)
        print(it.imatrix())
        for failure in it.failures:
            print("FAILED:", failure)
        return 1 if it.failures else 0


if __name__ == "__main__":
    sys.exit(main())
