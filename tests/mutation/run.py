#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts small faults into the headers, one at a time, and tells which of them the tests do not notice.

    tests/mutation/run.py --check                 every fault fits the sources: a second, compiles nothing
    tests/mutation/run.py --list                  what there is
    tests/mutation/run.py --room codebook         runs the faults of a room
    tests/mutation/run.py --fault codebook-12     runs one, and shows what the tests said
    tests/mutation/run.py --sample 25 --jobs 4    25 of each room, drawn by --seed

faults/ROOM.txt holds the faults of a room, separated by empty lines:

    @ include/gosset/scale/fit.hpp                the file of the faults that follow
    : scale/fit_test.cpp matrix/quantize_test.cpp the tests that shall notice them, below tests/; without such a line
                                                  the header's own, at its path
    - percentile->percent <= 100                  the text, which must stand in the file exactly once; for several
    + percentile->percent < 100                   lines several of these, which keep what stands behind "- "
    = why no test can notice it                   only where that is so: such a fault is not counted

A line that begins with # is a comment. Faults are numbered by their order, so new ones go to the end of their file.

To run a fault, the sources are copied, the text is replaced, and each test file named is compiled against the copy and
run: the fault is killed where that does not compile, where a test fails or where it takes too long. The test file that
took the shortest time without a fault comes first, and none follows the one that noticed. Each has to pass without a
fault before. What includes no header of gosset is compiled once, tests/precompiled.hpp. What a fault did is printed and
appended to a file of JSON lines (--results) at once, and so is the time of each test file. A run that is begun again
takes what stands there and goes on with the rest; --again runs the survivors of it anew.

Tests of examples/llama are linked with its library of formats as it is without the fault; one that names a source file
of it (: examples_llama/kv_test.cpp examples/llama/kv.cpp) has that compiled anew, too.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import queue
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ["eigen3", "gmock", "gtest_main", "libpcre2-8", "libutf8proc", "nlohmann_json", "yaml-cpp"]
LLAMA = [f"examples/llama/{name}.cpp" for name in
         ["formats", "gguf_formats", "gguf_format_table", "gguf_matrix", "integer_layers", "qat", "kv", "tokenizer_json",
          "recipe"]]
KEPT = ["file", "text", "replacement"]  # by which a result is known again


def read_room(path):
    """The faults of a file, as dictionaries."""
    faults, file, sources, fault = [], None, None, {}

    def finish():
        if fault:
            number = len(faults) + 1
            if "text" not in fault or "replacement" not in fault:
                sys.exit(f"{path.name}: fault {number} needs a line with - and one with +")
            own = file.replace("include/gosset/", "tests/").replace("examples/llama/", "tests/examples_llama/")
            faults.append({"room": path.stem, "name": f"{path.stem}-{number}", "file": file,
                           "sources": sources or [own.replace(".hpp", "_test.cpp")], **fault})
            fault.clear()

    for at, line in enumerate(path.read_text().splitlines(), 1):
        mark, rest = line[:2].strip(), line[2:]
        if line.startswith("#"):
            continue
        if mark in ("@", ":", ""):
            finish()
        if mark == "@":
            file, sources = rest.strip(), None
        elif mark == ":":
            sources = [s if s.startswith("examples/") else "tests/" + s for s in rest.split()]
        elif mark in ("-", "+", "=") and file:
            key = {"-": "text", "+": "replacement", "=": "equivalent"}[mark]
            fault[key] = fault[key] + "\n" + rest if key in fault else rest
        elif mark:
            sys.exit(f"{path.name}:{at}: expected a line that begins with @, :, -, +, = or #")
    finish()
    return faults


def problem(fault):
    """What is wrong with a fault, or None."""
    for file in [fault["file"], *fault["sources"]]:
        if not (ROOT / file).is_file():
            return f"there is no {file}"
    if fault["text"] == fault["replacement"]:
        return "the replacement is the text"
    count = (ROOT / fault["file"]).read_text().count(fault["text"])
    return None if count == 1 else f"the text stands {count} times in {fault['file']}: {fault['text']}"


def few_types(text):
    """A test file with two types in each list of types that has more: the second and the last."""
    at = 0
    while (at := text.find("::testing::Types<", at) + 1) > 0:
        begin = end = start = text.index("<", at) + 1
        types, depth = [], 1
        while depth > 0:
            depth += {"<": 1, ">": -1}.get(text[end], 0)
            if depth == 0 or depth == 1 and text[end] == ",":
                types.append(text[start:end])
                start = end + 1
            end += 1
        if len(types) > 2:
            text = text[:begin] + types[1] + "," + types[-1] + text[end - 1:]
    return text


def call(command, timeout, **more):
    """Whether a command succeeds, what it printed, and whether it took too long."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True, **more)
    try:
        text, _ = process.communicate(timeout=timeout)
        return process.returncode == 0, text, False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return False, process.communicate()[0], True


class Runner:
    """Compiles and runs tests against the sources, or against a copy of them with a fault."""

    def __init__(self, options, scratch, seconds):
        self.options, self.scratch = options, pathlib.Path(scratch)
        self.seconds = seconds  # that each test file takes to compile and run without a fault, known from before
        self.plain_runs, self.lock = {}, threading.Lock()  # how long each test ran without a fault, in this run
        self.alone = set()  # tests of examples/llama that need nothing of its library
        self.compiles = threading.Semaphore(options.compiles or options.jobs)
        packages = [p for p in PACKAGES if call(["pkg-config", "--exists", p], 10)[0]]
        ask = lambda what: shlex.split(call(["pkg-config", what, *packages], 10)[1]) if packages else []
        self.compiler = [*shlex.split(options.compiler), *shlex.split(options.flags), f'-DGOSSET_SOURCE_DIR="{ROOT}"',
                         f'-DGOSSET_DATA_DEFAULT="{ROOT.parent / "shared/data"}"', *ask("--cflags")]
        self.libraries = [*ask("--libs"), *shlex.split(options.libraries)]
        self.precompiled = self.scratch / "precompiled.hpp"  # found beside it, as .gch, by gcc and by clang
        shutil.copy(ROOT / "tests/precompiled.hpp", self.precompiled)
        self.must(call([*self.compiler, "-x", "c++-header", self.precompiled, "-o", f"{self.precompiled}.gch"],
                       options.compile_timeout), "tests/precompiled.hpp does not compile")
        self.trees = queue.Queue()  # copies of the sources, one a job
        self.clean = self.scratch / "clean"  # and one that stays as it is
        for tree in [self.clean, *(self.scratch / f"tree{job}" for job in range(options.jobs))]:
            for folder in ("include", "tests", "examples"):
                shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("model", "mutation"))
            for path in tree.glob("tests/**/*_test.cpp") if options.few_types else []:
                path.write_text(few_types(path.read_text()))
            if tree != self.clean:
                self.trees.put(tree)

    def must(self, outcome, text):
        """Ends the program where a command failed that knows of no fault."""
        if not outcome[0]:
            print(f"{text}:\n{outcome[1]}", flush=True)
            os._exit(1)  # from a thread, too

    def compiled(self, tree, source, target):
        first = self.precompiled  # but where Eigen is asked for more than it gives by itself
        ahead = [] if "#define EIGEN_" in (tree / source).read_text() else ["-include", first]
        with self.compiles:
            return call([*self.compiler, *ahead, f"-I{tree}/include", f"-I{tree}/tests", "-c", f"{tree}/{source}", "-o",
                         target], self.options.compile_timeout)

    def plain(self, source):
        return self.scratch / (source.replace("/", "_") + ".o")

    def linked(self, objects, program):
        return call([*self.compiler, *objects, "-o", program, *self.libraries], self.options.compile_timeout)

    def ran(self, objects, program, timeout):
        linked = self.linked(objects, program)
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
        arguments = [program, "--gtest_brief=1", "--gtest_fail_fast"]
        return call(arguments, timeout, cwd=program.parent, env=environment) if linked[0] else linked

    def objects(self, source, anew=None):
        """What a test is linked of: its own file first, whose inline functions the linker then takes."""
        more = LLAMA if "examples_llama" in source and source not in self.alone else []
        return [(anew or {}).get(s, self.plain(s)) for s in [source, *more]]

    def without_fault(self, source):
        """Compiles a test and runs it as it is, once, and gives the seconds that it ran."""
        with self.lock:
            if source not in self.plain_runs:
                start = time.time()
                self.must(self.compiled(self.clean, source, self.plain(source)), f"{source} does not compile without a fault")
                middle = time.time()
                program = self.plain(source).with_suffix(".run")
                if "examples_llama" in source and self.linked([self.plain(source)], program)[0]:
                    self.alone.add(source)
                for name in LLAMA if len(self.objects(source)) > 1 else []:
                    if not self.plain(name).exists():
                        self.must(self.compiled(self.clean, name, self.plain(name)),
                                  f"{name} does not compile without a fault")
                end = time.time()
                self.must(self.ran(self.objects(source), program, self.options.test_timeout),
                          f"{source} does not pass without a fault")
                self.plain_runs[source] = time.time() - end
                self.seconds[source] = middle - start + time.time() - end
                self.note({"test": source, "seconds": round(self.seconds[source], 1)})
            return self.plain_runs[source]

    def note(self, result):
        with self.options.results.open("a") as file:
            print(json.dumps(result), file=file)

    def order(self, source):
        """Sources that are no tests first, then the test that takes the shortest time."""
        return source.startswith("tests/"), self.seconds.get(source, 0)

    def outcome(self, fault):
        """How a fault was killed, or "" where it was not, and what was printed then."""
        tree = self.trees.get()
        path = tree / fault["file"]
        original = path.read_text()
        try:
            anew = {source: tree / (pathlib.Path(source).stem + ".o") for source in fault["sources"]}
            for source in sorted(fault["sources"], key=self.order):
                ran = self.without_fault(source) if source.startswith("tests/") else 0
                path.write_text(original.replace(fault["text"], fault["replacement"]))
                ok, text, late = self.compiled(tree, source, anew[source])
                if not ok:
                    return "compiler", text
                if source.startswith("tests/"):
                    timeout = self.options.test_timeout + 10 * ran
                    ok, text, late = self.ran(self.objects(source, anew), tree / "fault.run", timeout)
                if not ok:
                    return "time" if late else "test", text
            return "", ""
        finally:
            path.write_text(original)
            self.trees.put(tree)


def report(faults, known):
    """Prints the score by room, then what survived."""
    print(f"\n{'room':<14}{'faults':>8}{'equivalent':>12}{'killed':>8}{'survived':>10}{'score':>8}")
    for room in [*sorted({f["room"] for f in faults}), "all"]:
        mine = [f for f in faults if room in (f["room"], "all")]
        how = [known[f["name"]] for f in mine if f["name"] in known]
        survived, equal = how.count(""), sum("equivalent" in f for f in mine)
        score = f"{100 * (1 - survived / len(how)):.1f}%" if how else "-"
        print(f"{room:<14}{len(mine):>8}{equal:>12}{len(how) - survived:>8}{survived:>10}{score:>8}")
    for fault in (f for f in faults if known.get(f["name"]) == ""):
        print(f"\nsurvived: {fault['name']}, {fault['file']}\n- {fault['text']}\n+ {fault['replacement']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="The file's own text says more.")
    parser.add_argument("--check", action="store_true", help="only see that every fault fits the sources")
    parser.add_argument("--list", action="store_true", help="only print the faults")
    parser.add_argument("--room", action="append", help="faults of this room alone")
    parser.add_argument("--fault", action="append", help="this fault alone, such as core-3")
    parser.add_argument("--sample", type=int, metavar="N", help="N faults of each room alone, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "c++"))
    parser.add_argument("--flags", default="-std=c++20 -O1 -fexpensive-optimizations -march=native -fopenmp -w",
                        help="gcc fuses products with sums where optimizations are expensive, as -O2 has it")
    parser.add_argument("--libraries", default="-pthread", help="what to link besides what pkg-config says")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    parser.add_argument("--compiles", type=int, metavar="N", help="of which N are compiled, while tests of others run")
    parser.add_argument("--few-types", action="store_true", help="typed tests with two of their types: what survives "
                        "these is run with all of them by --again")
    parser.add_argument("--compile-timeout", type=float, default=1800, metavar="SECONDS")
    parser.add_argument("--test-timeout", type=float, default=120, metavar="SECONDS", help="beyond ten times its own")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build/mutation.jsonl")
    parser.add_argument("--again", action="store_true", help="run anew what survived before")
    options = parser.parse_args()

    every = [f for path in sorted((ROOT / "tests/mutation/faults").glob("*.txt")) for f in read_room(path)]
    if wrong := [f"{f['name']}: {text}" for f in every if (text := problem(f))]:
        sys.exit("\n".join(wrong))
    faults = [f for f in every if (not options.room or f["room"] in options.room) and
              (not options.fault or f["name"] in options.fault)]
    if options.sample:
        drawn = random.Random(options.seed)
        rooms = [[f for f in faults if f["room"] == room] for room in sorted({f["room"] for f in faults})]
        faults = [f for room in rooms for f in drawn.sample(room, len(room))[:options.sample]]
    if options.check or options.list:
        for f in faults if options.list else []:
            print(f"{f['name']:<16}{f['file']}\n  - {f['text']}\n  + {f['replacement']}")
        return print(len(faults), "faults, all of which fit the sources")

    options.results.parent.mkdir(parents=True, exist_ok=True)
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    lines = [json.loads(line) for line in lines]
    past = {tuple(r[k] for k in KEPT): r for r in lines if "file" in r}
    seconds = {r["test"]: r["seconds"] for r in lines if "test" in r}
    known = {f["name"]: past[key]["killed"] for f in faults if (key := tuple(f[k] for k in KEPT)) in past
             and "equivalent" not in f and (past[key]["killed"] or past[key]["sources"] == f["sources"])}
    left = [f for f in faults if options.fault or "equivalent" not in f and
            (f["name"] not in known or options.again and known[f["name"]] == "")]
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runner = Runner(options, scratch, seconds)

        def run(fault):
            start = time.time()
            return fault, *runner.outcome(fault), time.time() - start

        for done in concurrent.futures.as_completed([pool.submit(run, fault) for fault in left]):
            fault, how, text, seconds = done.result()
            known[fault["name"]] = how
            runner.note({**{k: fault[k] for k in ["name", *KEPT, "sources"]}, "killed": how, "seconds": round(seconds, 1)})
            print(f"{fault['name']:<16}{'killed, ' + how if how else 'SURVIVED':<18}{seconds:6.1f} s  {fault['file']}",
                  flush=True)
            if options.fault:
                print(text)
    report(faults, known)


if __name__ == "__main__":
    main()
