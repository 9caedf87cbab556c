#!/usr/bin/env python3
"""Report the sizes that a reviewer looks at; informative, never fails.

Usage: size_report.py [SOURCE_FOLDER]     lines per folder, files > 400 lines, functions > 60 lines

Relies on clang-format: a function opens with a line that ends in "{" and closes with "}" at the same
depth of indentation.
"""
import collections, pathlib, re, sys

FOLDERS = ("core", "autograd", "model", "data", "trainer", "tests", "bench", "tools", "scripts")
SUFFIXES = {".h", ".cpp", ".py", ".sh", ".cmake"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
NO_FUNCTION = re.compile(r"\s*(\}|if|for|while|switch|do|try|else|namespace|struct|class|enum|union"
                         r"|return|case|default|extern|template <[^>]*> (struct|class))\b|\s*[{}]")


def long_functions(lines):
    """Yield (first line, number of lines) of functions at namespace and class level."""
    opened = {}  # indentation: line number of the block's first line
    statement = 1  # where the statement that `line` belongs to began
    for number, line in enumerate(lines, 1):
        indent = len(line) - len(line.lstrip())
        if not line.strip() or line.rstrip().endswith((";", "}", ":")) or "//" in line[:indent + 2]:
            closed = opened.pop(indent, None) if line.lstrip().startswith("}") else None
            if closed and line.strip() == "}" and number - closed + 1 > LONGEST_FUNCTION:
                yield closed, number - closed + 1
            statement = number + 1
        elif line.rstrip().endswith("{"):
            first = lines[statement - 1]
            if "(" in "".join(lines[statement - 1:number]) and not NO_FUNCTION.match(first):
                opened[len(first) - len(first.lstrip())] = statement
            statement = number + 1


def main(root):
    totals, long_files, functions = collections.Counter(), [], []
    for path in sorted(p for folder in FOLDERS for p in (root / folder).rglob("*")):
        if path.suffix not in SUFFIXES or "data_files" in path.parts:
            continue
        name = path.relative_to(root)
        lines = path.read_text().splitlines()
        totals[str(name.parent)] += len(lines)
        if len(lines) > LONGEST_FILE:
            long_files.append((len(lines), name))
        if path.suffix in {".h", ".cpp"}:
            functions += [(length, f"{name}:{first}") for first, length in long_functions(lines)]
    print(f"{'folder':28}{'lines':>8}")
    for folder, count in sorted(totals.items()):
        print(f"{folder:28}{count:>8,}")
    print(f"{'all':28}{sum(totals.values()):>8,}")
    for title, found in ((f"files > {LONGEST_FILE} lines", long_files),
                         (f"functions > {LONGEST_FUNCTION} lines", functions)):
        print(f"\n{title}: {len(found)}")
        for length, where in sorted(found, reverse=True):
            print(f"{length:>8}  {where}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent))
