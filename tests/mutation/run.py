#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts small faults into the headers, one at a time, and tells which of them the tests do not notice.

    tests/mutation/run.py --check                 every fault fits the sources: a second, compiles nothing
    tests/mutation/run.py --list                  what there is
    tests/mutation/run.py --room codebook         runs the faults of a room
    tests/mutation/run.py --file kv/staging.hpp   those of a file
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

Compiling a test takes most of the time, so switch.py puts all faults of a test behind a switch: the test is compiled
once with those that no other test has noticed, has to pass with none chosen, and is run once for each. A fault is
killed where a test fails or takes too long. One that no switch can hold (a constant, a signature) or whose switch does
not compile, and one that no test noticed behind its switch, is tried alone: its text is replaced, and its tests are
compiled anew, until one does not compile or fails.

A program that needs the library of formats of examples/llama is linked with it as it is without the fault; a fault
that names a source file of it (: examples_llama/kv_test.cpp examples/llama/kv.cpp) has that compiled anew, too.

What a fault did is printed and appended to a file of JSON lines (--results) at once. A run that is begun again takes
what stands there and goes on with the rest; --again runs the survivors of it anew.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import queue
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import switch

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
        return process.returncode == 0, text, process.returncode == -signal.SIGXCPU
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return False, process.communicate()[0], True


def processor_time():
    """The seconds that all commands so far have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Runner:
    """Compiles and runs tests against the sources, or against a copy of them with faults."""

    def __init__(self, options, scratch):
        self.options, self.scratch = options, pathlib.Path(scratch)
        self.plain_runs, self.lock, self.spent = {}, threading.RLock(), 0  # of each test without a fault, in seconds
        self.compiles = threading.Semaphore(options.compiles or options.jobs)
        packages = [p for p in PACKAGES if call(["pkg-config", "--exists", p], 10)[0]]
        ask = lambda what: shlex.split(call(["pkg-config", what, *packages], 10)[1]) if packages else []
        self.compiler = [*shlex.split(options.compiler), *shlex.split(options.flags), f'-DGOSSET_SOURCE_DIR="{ROOT}"',
                         f'-DGOSSET_DATA_DEFAULT="{ROOT.parent / "shared/data"}"', *ask("--cflags")]
        self.libraries = [*ask("--libs"), *shlex.split(options.libraries)]
        self.prelude = self.scratch / "prelude.hpp"
        self.prelude.write_text(switch.PRELUDE)
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

    def precompiled(self, flags):
        """tests/precompiled.hpp for these flags, beside which gcc and clang find it compiled."""
        header = self.scratch / f"precompiled{'_'.join(flags)}.hpp"
        with self.lock:
            if not header.exists():
                header.write_text((ROOT / "tests/precompiled.hpp").read_text() + switch.PRELUDE)
                self.must(call([*self.compiler, *flags, "-x", "c++-header", header, "-o", f"{header}.gch"],
                               self.options.compile_timeout), "tests/precompiled.hpp does not compile")
        return header

    def compiled(self, tree, source, target, flags=()):
        own = "#define EIGEN_" in (tree / source).read_text()  # asks Eigen for more than it gives by itself
        first = self.prelude if own else self.precompiled(flags)
        with self.compiles:
            return call([*self.compiler, *flags, "-include", first, f"-I{tree}/include", f"-I{tree}/tests", "-c",
                         f"{tree}/{source}", "-o", target], self.options.compile_timeout)

    def library(self):
        """The formats of examples/llama, and what else its programs share, without a fault."""
        archive = self.scratch / "llama.a"
        with self.lock:
            if not archive.exists():
                objects = [self.scratch / (pathlib.Path(source).stem + ".o") for source in LLAMA]
                for source, target in zip(LLAMA, objects):
                    self.must(self.compiled(self.clean, source, target), f"{source} does not compile")
                self.must(call(["ar", "rc", archive, *objects], 60), "ar fails")
        return archive

    def built(self, tree, sources, program, flags=()):
        """A program of a test and of sources of examples/llama, which the linker takes before the library's."""
        objects = []
        for source in sources:
            objects.append(tree / (source.replace("/", "_") + ".o"))
            if not (outcome := self.compiled(tree, source, objects[-1], flags))[0]:
                return outcome
        link = lambda *more: call([*self.compiler, *objects, "-o", program, *more, *self.libraries], 600)
        outcome = link()
        return outcome if outcome[0] or "examples_llama" not in sources[-1] else link(self.library())

    def ran(self, program, plain, number=-1):
        """Runs a program with a fault that it has, or none. `plain`: the seconds that it took without."""
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "GOSSET_FAULT": str(number)}
        limit = int(self.options.test_timeout + 10 * plain)  # of processor time: the machine may be busy
        command = ["sh", "-c", f'ulimit -t {limit}; exec "$0" "$@"', program, "--gtest_brief=1", "--gtest_fail_fast"]
        return call(command, 10 * limit, cwd=program.parent, env=environment)

    def note(self, result):
        """Writes a line of results, with the processor time that was spent since the one before."""
        with self.lock, self.options.results.open("a") as file:
            spent, self.spent = self.spent, processor_time()
            print(json.dumps({**result, "processor": round(self.spent - spent, 2)}), file=file)

    def switched(self, source, faults, ended):
        """Runs a test for faults that may have a switch, and calls ended(fault, how, text) for each: how it was killed,
        or "" where it was not."""
        tree = self.trees.get()
        files = {fault["file"]: (tree / fault["file"]).read_text() for fault in faults}
        left = [dict(enumerate(faults))]  # groups that are compiled together
        try:
            while left:
                group = left.pop()
                for file, text in files.items():
                    mine = [(number, fault) for number, fault in group.items() if fault["file"] == file]
                    (tree / file).write_text(switch.switched(text, mine))
                others = {s for fault in group.values() for s in fault["sources"] if s.startswith("examples/")}
                program, slow = tree / "fault.run", shlex.split(self.options.slow)
                ok, text, _ = self.built(tree, [*others, source], program)
                if ok:
                    seconds, _ = self.plain(program)
                    if seconds:
                        self.plain_runs[source] = seconds
                    if slow and seconds * len(group) > 60 and self.built(tree, [*others, source], program, slow)[0]:
                        seconds, _ = self.plain(program)
                    self.note({"test": source, "faults": len(group), "seconds": round(seconds, 2)})
                    for number, fault in group.items():  # where it does not pass, they wait to be tried alone
                        ok, text, late = self.ran(program, seconds, number) if seconds else (True, "", False)
                        ended(fault, "" if ok else "time" if late else "test", text)
                    continue
                bad = re.findall(r"^fault-(\d+):.* error", text, re.M) or re.findall(r"\bfault-(\d+):\d", text)
                bad = {int(number) for number in bad} & set(group) or (set(group) if len(group) == 1 else set())
                for number in bad:  # those whose switch does not compile
                    ended(group.pop(number), "", text)
                half = len(group) if bad else len(group) // 2  # where it is not known which, each half is tried
                left += [part for part in (dict([*group.items()][:half]), dict([*group.items()][half:])) if part]
        finally:
            for file, text in files.items():
                (tree / file).write_text(text)
            self.trees.put(tree)

    def plain(self, program):
        """How many seconds a program runs with no fault chosen, or False where it fails then, and what it printed."""
        start, used = time.time(), processor_time()
        ok, text, _ = self.ran(program, 60)
        # the less of two, as the machine, or another job, may be busy
        return ok and max(1e-3, min(time.time() - start, processor_time() - used)), text

    def without_fault(self, source):
        """How long a test runs as it is, which it has to pass."""
        with self.lock:
            if source not in self.plain_runs:
                program = self.scratch / "plain.run"
                self.must(self.built(self.clean, [source], program), f"{source} does not compile without a fault")
                outcome = self.plain(program)
                self.must(outcome, f"{source} does not pass without a fault")
                self.plain_runs[source] = outcome[0]
            return self.plain_runs[source]

    def alone(self, fault):
        """How a fault was killed whose text is replaced, or "" where it was not, and what was printed then."""
        tree = self.trees.get()
        path = tree / fault["file"]
        original = path.read_text()
        try:
            path.write_text(original.replace(fault["text"], fault["replacement"]))
            others = [source for source in fault["sources"] if source.startswith("examples/")]
            for source in (s for s in fault["sources"] if s.startswith("tests/")):
                ran = self.without_fault(source)
                ok, text, _ = self.built(tree, [*others, source], tree / "fault.run")
                if not ok:
                    return "compiler", text
                ok, text, late = self.ran(tree / "fault.run", ran)
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
    parser.add_argument("--file", action="append", help="faults of this file alone, such as kv/staging.hpp")
    parser.add_argument("--fault", action="append", help="this fault alone, such as core-3")
    parser.add_argument("--sample", type=int, metavar="N", help="N faults of each room alone, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "c++"))
    parser.add_argument("--flags", default="-std=c++20 -O1 -fexpensive-optimizations -march=native -fopenmp -w",
                        help="gcc fuses products with sums where optimizations are expensive, as -O2 has it")
    parser.add_argument("--slow", default="", metavar="FLAGS", help="flags to add where a test's runs would take more "
                        "than a minute in all, such as -O1")
    parser.add_argument("--libraries", default="-pthread", help="what to link besides what pkg-config says")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    parser.add_argument("--compiles", type=int, metavar="N", help="of which N are compiled, while tests of others run")
    parser.add_argument("--few-types", action="store_true", help="typed tests with two of their types: what survives "
                        "these is run with all of them by --again")
    parser.add_argument("--compile-timeout", type=float, default=1800, metavar="SECONDS")
    parser.add_argument("--test-timeout", type=float, default=20, metavar="SECONDS", help="beyond ten times its own")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build/mutation.jsonl")
    parser.add_argument("--alone", action="store_true", help="no switches: one fault at a time")
    parser.add_argument("--switched", action="store_true", help="only behind switches: says what is left undecided, "
                        "and does not try it alone, which takes longest")
    parser.add_argument("--again", action="store_true", help="run anew what survived before")
    options = parser.parse_args()

    every = [f for path in sorted((ROOT / "tests/mutation/faults").glob("*.txt")) for f in read_room(path)]
    if wrong := [f"{f['name']}: {text}" for f in every if (text := problem(f))]:
        sys.exit("\n".join(wrong))
    faults = [f for f in every if (not options.room or f["room"] in options.room) and
              (not options.file or f["file"].endswith(tuple(options.file))) and
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
    key = lambda fault: tuple(fault[k] for k in KEPT)
    past = {key(r): r for r in lines if "killed" in r}
    known = {f["name"]: past[key(f)]["killed"] for f in faults if key(f) in past and "equivalent" not in f
             and (past[key(f)]["killed"] or past[key(f)]["sources"] == f["sources"])}
    left = [f for f in faults if options.fault or "equivalent" not in f and
            (f["name"] not in known or options.again and known[f["name"]] == "")]
    known = {name: how for name, how in known.items() if name not in {f["name"] for f in left}}
    passed = {(*key(r), r["passed"]) for r in lines if "passed" in r and not options.again}  # behind a switch
    texts = {f["file"]: (ROOT / f["file"]).read_text() for f in left}
    found = {file: switch.blocks(text) for file, text in texts.items()}
    tests = {}
    for fault in left:
        if switch.least_block(texts[fault["file"]], found[fault["file"]], fault) and not options.alone:
            for source in fault["sources"]:
                if source.startswith("tests/"):
                    tests.setdefault(source, []).append(fault)
    # first those that faults name first, so that little is left for tests that are named behind others
    tests = sorted(tests.items(), key=lambda test: -sum(f["sources"][0] == test[0] for f in test[1]) / len(test[1]))

    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # for a fault that allocates without end
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runner = Runner(options, scratch)

        def ended(fault, how, text, source=None):
            if source and not how:  # the last word is not spoken
                return runner.note({**{k: fault[k] for k in KEPT}, "passed": source})
            known[fault["name"]] = how
            runner.note({**{k: fault[k] for k in ["name", *KEPT, "sources"]}, "killed": how})
            print(f"{fault['name']:<16}{'killed, ' + how if how else 'SURVIVED':<18}{fault['file']}", flush=True)
            if options.fault:
                print(text)

        def run(test):
            source, mine = test
            mine = [f for f in mine if f["name"] not in known and (*key(f), source) not in passed]
            if mine:
                runner.switched(source, mine, lambda *outcome: ended(*outcome, source))

        for _ in pool.map(run, tests):
            pass
        rest = [f for f in left if f["name"] not in known]
        if options.switched:
            print("".join(f"{fault['name']:<16}undecided\n" for fault in rest))
            rest = []
        for _ in pool.map(lambda fault: ended(fault, *runner.alone(fault)), rest):
            pass
    report(faults, known)
    lines = [json.loads(line) for line in options.results.read_text().splitlines()]
    print(f"\n{sum(r.get('processor', 0) for r in lines) / 60:.0f} minutes of processor time")


if __name__ == "__main__":
    main()
