# SPDX-License-Identifier: Apache-2.0
"""Puts many faults into one file, of which the environment variable GOSSET_FAULT chooses one when a program runs.

The least block that holds a fault, `{ body }` of a function, loop or branch, becomes

    { if (constant evaluation, or none of the block's faults is chosen) { body } else { body with the fault } }

with one `else` a fault. What stands in no such block, a constant or a signature, cannot be chosen so.
"""
import bisect
import re

PRELUDE = """
#include <cstdlib>
#include <type_traits>
namespace gosset_fault {
inline const char* const text = std::getenv("GOSSET_FAULT");
inline const int chosen = text == nullptr ? -1 : std::atoi(text);
}
"""
NO_CODE = re.compile(r"//[^\n]*|/\*.*?\*/|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*|R\"(\w*)\(.*?\)\1\""
                     r"|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-zA-Z])'(?:\\.|[^'\\\n])+'", re.S | re.M)
BEFORE_BODY = re.compile(r"(?:[\])]|\b(?:else|do|try)|\)\s*(?:const|noexcept|mutable|override|\s)+"
                         r"|\)[\s\w]*->[\s\w:<>,&*]+)\s*$")


def blocks(text):
    """Where the blocks of statements of a file begin and end, without their braces."""
    code = NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    found, braces, parentheses, opened = [], [], [], {}
    for at, c in enumerate(code):
        if c == "(":
            parentheses.append(at)
        elif c == ")" and parentheses:
            opened[at] = parentheses.pop()
        elif c == "{":
            before = code[max(0, at - 200):at].rstrip()
            last = at - len(code[max(0, at - 200):at]) + len(before) - 1
            word = re.search(r"\w*$", code[max(0, opened.get(last, 0) - 40):opened.get(last, 0)].rstrip())[0]
            braces.append((at + 1, BEFORE_BODY.search(before) and word not in ("switch", "requires")))
        elif c == "}" and braces:
            begin, is_block = braces.pop()
            if is_block:
                found.append((begin, at))
    return found


def place(text, fault):
    """Where the characters that a fault changes begin and end, and what stands there instead."""
    old, new = fault["text"], fault["replacement"]
    same = lambda a, b: next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    ahead = same(old, new)
    behind = same(old[ahead:][::-1], new[ahead:][::-1])
    begin = text.index(old) + ahead
    return begin, begin + len(old) - ahead - behind, new[ahead:len(new) - behind]


def least_block(text, found, fault):
    """The least of the blocks that holds a fault, or None."""
    begin, end, _ = place(text, fault)
    return min((b for b in found if b[0] <= begin and end <= b[1]), key=lambda b: b[1] - b[0], default=None)


def switched(text, faults):
    """The text with each of these (number, fault), all of which have a block, behind the switch."""
    found, held = blocks(text), {}
    for number, fault in faults:
        held.setdefault(least_block(text, found, fault), []).append((number, fault))
    starts = sorted(held)

    def part(begin, end):
        """text[begin:end] with the blocks that lie in it switched."""
        out, at = "", begin
        for block in starts[bisect.bisect_left(starts, (begin, 0)):]:
            if at <= block[0] and block[1] <= end and block != (begin, end):
                out += text[at:block[0]] + switch(*block)
                at = block[1]
        return out + text[at:end]

    def switch(begin, end):
        none = " && ".join(f"::gosset_fault::chosen != {number}" for number, _ in held[begin, end])
        out = f"\nif (std::is_constant_evaluated() || ({none})) {{\n{part(begin, end)}\n}}"
        for number, fault in held[begin, end]:
            first, last, new = place(text, fault)
            condition = "" if fault is held[begin, end][-1][1] else f"if (::gosset_fault::chosen == {number}) "
            body = text[begin:first] + new + text[last:end]
            out += f' else {condition}{{\n#line 1 "fault-{number}"\n{body}\n}}\n#line 1 "behind"\n'
        return out

    return part(0, len(text))
