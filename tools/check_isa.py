#!/usr/bin/env python3
"""Fails if a kernel object of one instruction set defines a symbol that the linker may share.

Of functions that several objects define (inline functions, templates) the linker keeps one. If that
is the AVX-512 copy, the program dies on an older machine. Names inside ag::<isa> exist once per
instruction set and cannot be mixed up.

usage: check_isa.py BUILD_FOLDER
"""
import pathlib
import subprocess
import sys

LEVELS = ("baseline", "avx2", "avx512", "amx")
SHARED_KINDS = "WVu"  # weak function, weak object, unique object: defined, merged by name
EXCEPTION_POINTER = "DW.ref."  # an address for the unwinder, in every object with cleanups


def shared_symbols(path, level):
    """Names that `path` defines, that other objects may define too, and that do not say `level`."""
    command = ["nm", "--demangle", "--defined-only", str(path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in lines:
        _, kind, name = line.split(maxsplit=2)
        own = f"ag::{level}::" in name or name.startswith(EXCEPTION_POINTER)
        if kind in SHARED_KINDS and not own:
            yield name


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check_isa.py BUILD_FOLDER")
    build = pathlib.Path(sys.argv[1])
    failures = 0
    for level in LEVELS:
        objects = sorted(build.rglob(f"kernels_{level}.dir/**/*.o"))
        if not objects:
            sys.exit(f"{build}: error: no objects of kernels_{level}; build the target kernels first")
        for path in objects:
            for name in shared_symbols(path, level):
                print(f"{path.relative_to(build)}: error: defines {name}; "
                      "a kernel may not emit functions of shared headers (cpu/isa/isa.h)")
                failures += 1
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
