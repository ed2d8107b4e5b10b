#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the switches of switch.py to a small program: switch_test.py COMPILER..."""
import os
import pathlib
import subprocess
import sys
import tempfile

import switch

PROGRAM = """
struct Sums {
  explicit constexpr Sums(int n) : n_(n) { if (n < 0) n_ = 0; }
  template <class F>
  auto each(F f) const -> int {
    int sum = 0;  // a brace { in a comment
    for (int i = 0; i < n_; ++i) { sum += f(i); }
    switch (sum) {
      case 3: sum += 2; break;
      case 7: { sum += 3; break; }
      default: break;
    }
    return sum;
  }
  constexpr int twice() const { return 2 * n_; }
  static constexpr int kThree = 3;
  int n_;
};
static_assert(Sums(3).twice() == 6);
inline int chosen(int x) {
  const auto more = [&](int y) { return x + y; };
  if (x > Sums::kThree) {
    return more('{' - '{' + 1);
  } else {
    return more(2);
  }
}
"""
MAIN = """
#include <cstdio>
int main() { std::printf("%d %d %d %d", Sums(3).each([](int i) { return i; }), Sums(3).twice(), chosen(3), chosen(5)); }
"""
PRINTED = {  # by fault: what is replaced, by what, and what the program prints then
    "5 6 5 6": ("", ""),
    "5 6 5 7": ("+ 1)", "+ 2)"),
    "0 0 5 6": ("n < 0", "n < 9"),
    "6 6 5 6": ("i < n_", "i <= n_"),
    "15 6 5 6": ("sum += f(i)", "sum += 5 * f(i)"),
    "7 6 5 6": ("sum += 2; break;", "sum += 4; break;"),
    "-5 6 5 6": ("return sum;", "return -sum;"),
    "5 9 5 6": ("2 * n_", "3 * n_"),
    "5 6 1 4": ("return x + y; }", "return x - y; }"),
    "5 6 4 6": ("x > Sums", "x >= Sums"),
}


def main():
    faults = [dict(text=old, replacement=new) for old, new in PRINTED.values()]
    found = switch.blocks(PROGRAM)
    assert all(switch.least_block(PROGRAM, found, fault) for fault in faults[1:])
    for text in ("kThree = 3", "explicit", "== 6"):
        assert not switch.least_block(PROGRAM, found, dict(text=text, replacement="other")), text
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder) / "it.cpp", pathlib.Path(folder) / "it"
        source.write_text(switch.PRELUDE + switch.switched(PROGRAM, list(enumerate(faults))[1:]) + MAIN)
        subprocess.run([*sys.argv[1:], "-std=c++20", "-w", source, "-o", program], check=True)
        for number, expected in enumerate(PRINTED):
            printed = subprocess.run([program], env={**os.environ, "GOSSET_FAULT": str(number or -1)}, text=True,
                                     capture_output=True, check=True).stdout
            assert printed == expected, f"fault {number}: {printed}, expected {expected}"
        wrong = dict(text="2 * n_", replacement="nothing")
        source.write_text(switch.PRELUDE + switch.switched(PROGRAM, [(7, wrong)]) + MAIN)
        refused = subprocess.run([*sys.argv[1:], "-std=c++20", "-w", "-c", source, "-o", program], text=True,
                                 capture_output=True)
        assert refused.returncode != 0 and "fault-7:1:" in refused.stderr, refused.stderr


if __name__ == "__main__":
    main()
