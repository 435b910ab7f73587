"""Counts the instructions of kernels by the statement that they come from.

A thread has VALUES elements, and what it does for each is unrolled: instructions of a statement, divided by VALUES, are what
an element costs each time the statement runs. What comes from the lines of `RARE` is left out; other branches are counted
whether they are taken or not, so that figures are upper bounds."""

import argparse
import collections
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

KERNELS = pathlib.Path(__file__).resolve().parent.parent / "kernels"
VARIANTS = [
    "cells_pair<float, 8, 32, false>",
    "vjp_pair<float, 8, 32, false>",
    "cells_spread<float, 8, 32, false>",
    "cells_spread<float, 16, 16, false>",
    "vjp_spread<float, 8, 32, false>",
]

# Texts of lines that run only where elements cannot be moved by four, or cannot be used.
RARE = ["array[i + j]", "if (i + j < n)", "i + k < n", "if (place.present && !usable)", "write_unusable<T>("]

# The first that fits; the rest are integers and logic.
CLASSES = {
    "memory": r"LDG|STG|LD\.|ST\.|LDC|ULDC|LDL|STL",
    "shared": r"LDS|STS|ATOMS",
    "warp": r"SHFL|VOTE|MATCH|REDUX|WARPSYNC|BAR",
    "double": r"D(ADD|MUL|FMA|SETP|MNMX)|MUFU.*64",
    "convert": r"F2F|I2F|F2I|F2FP|HADD2\.F32",
    "single": r"F(ADD|MUL|FMA|MNMX|SETP|SEL|CHK)|MUFU",
    "control": r"BRA|BSSY|BSYNC|EXIT|RET|CALL|NOP|YIELD|BREAK|JMP",
    "move": r"MOV|IMAD\.MOV|CS2R|S2R|SEL|PRMT|R2P|P2R|UMOV|R2UR|PLOP3",
}
# Of an H100: lane instructions that its 132 multiprocessors begin in a second (128 a clock, at 1.7 GHz), and bytes that a copy
# on the device moves (3.0 TB/s).
LANE_INSTRUCTIONS = 132 * 128 * 1.7e9
COPY_BYTES = 3.0e12

INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)")
PLACE = re.compile(r'^\s*//## File "([^"]+)", line (\d+)(?P<inlined> inlined at)?')


def disassemble(variant, architecture):
    """The text of a variant, with the places that instructions come from."""
    name = variant.partition("<")[0]
    for tool in ["nvcc", "nvdisasm"]:
        if not shutil.which(tool):
            sys.exit(f"sass-count: {tool} is not on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = pathlib.Path(folder, "kernel.cu"), pathlib.Path(folder, "kernel.cubin")
        (call,) = set(re.findall(rf"\b{name}\(const __grid_constant__ (\w+) call", (KERNELS / f"{name}.cu").read_text()))
        source.write_text(
            f'#include "{name}.cu"\ntemplate __global__ void {variant}(const __grid_constant__ {call});\n'
        )
        build = ["nvcc", "-std=c++17", f"-arch={architecture}", "-lineinfo", "-cubin", f"-I{KERNELS}", source, "-o", cubin]
        subprocess.run(build, check=True)
        return subprocess.run(["nvdisasm", "-gi", "-c", cubin], check=True, capture_output=True, text=True).stdout


def class_of(opcode):
    """What an instruction is."""
    return next((name for name, pattern in CLASSES.items() if re.match(pattern, opcode)), "integer")


def count(text, name):
    """Instructions by the kernel's line that they come from, and class."""
    counts, line, is_rare, begins = collections.defaultdict(collections.Counter), 0, False, True
    sources = {path.name: path.read_text().splitlines() for path in KERNELS.iterdir()}
    rows = text.splitlines()
    # What comes behind the last EXIT is for warps whose lanes have parted, which those of these kernels do not.
    end = max(index for index, row in enumerate(rows) if (found := INSTRUCTION.match(row)) and found[1] == "EXIT")
    for row in rows[:end]:
        if place := PLACE.match(row):
            # Places come in a row, from the innermost to the outermost, which has no word of inlining.
            file, at = pathlib.Path(place[1]).name, int(place[2])
            of_line = sources[file][at - 1] if file in sources else ""
            is_rare = (is_rare and not begins) or any(rare in of_line for rare in RARE)
            begins = not place["inlined"]
            if begins and file == f"{name}.cu":
                line = at
        elif instruction := INSTRUCTION.match(row):
            begins = True
            if instruction[1] != "NOP" and not is_rare:
                counts[line][class_of(instruction[1])] += 1
    return counts


def show(variant, architecture):
    name, values = variant.partition("<")[0], int(variant.split(",")[2])
    source = (KERNELS / f"{name}.cu").read_text().splitlines()
    counts = count(disassemble(variant, architecture), name)
    classes = ["single", "double", "convert", "integer", "move", "memory", "shared", "warp", "control"]
    print(f"\n{variant}, {architecture}: instructions of a thread, which has {values} elements; the last column: for each")
    print("  ".join(["line".rjust(4)] + [of.rjust(7) for of in classes] + ["all".rjust(6), "element".rjust(8)]))
    total = collections.Counter()
    for line in sorted(counts):
        of_line = counts[line]
        total += of_line
        figures = [str(of_line[of]).rjust(7) for of in classes]
        everything = sum(of_line.values())
        statement = source[line - 1].strip() if line else "(of no line)"
        print("  ".join([str(line).rjust(4)] + figures + [str(everything).rjust(6), f"{everything / values:8.2f}", statement[:88]]))
    everything = sum(total.values())
    figures = [str(total[of]).rjust(7) for of in classes]
    print("  ".join([" all"] + figures + [str(everything).rjust(6), f"{everything / values:8.2f}"]))


def main():
    parser = argparse.ArgumentParser(prog="scripts/sass-count.sh", description=__doc__.partition("\n")[0])
    parser.add_argument("variants", nargs="*", default=VARIANTS, help="such as 'vjp_pair<float, 8, 32, false>'")
    parser.add_argument("--architecture", default="sm_90", help="%(default)s")
    options = parser.parse_args()
    for of, element_bytes in [("forward, 9 bytes an element", 9), ("backward, 9.25", 9.25)]:
        allowed = LANE_INSTRUCTIONS * element_bytes / COPY_BYTES
        print(f"an H100 begins {allowed:.0f} lane instructions in the time that memory takes for an element ({of})")
    for variant in options.variants:
        show(variant, options.architecture)


main()
