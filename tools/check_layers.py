#!/usr/bin/env python3
"""Check who includes whom: layers look only downwards, third-party headers stay in quarantine.

Usage: check_layers.py SOURCE_FOLDER     one line per violation, exit code 1
       check_layers.py --self-test       proves that it sees violations and lets the rest pass
"""
import pathlib, re, sys

LAYERS = {  # folder: the layers right below it; of nested folders the longest match counts
    "core": [], "autograd/core": ["core"], "autograd/kernels": ["autograd/core"],
    "autograd": ["autograd/kernels"], "model": ["autograd"], "data": ["core"],
    "chart": ["core"],
    "trainer/config": ["core"], "trainer/files": ["model"], "trainer/ranks": ["trainer/config", "trainer/files"],
    "trainer/checkpoint": ["trainer/ranks"], "trainer/models": ["trainer/checkpoint", "data"],
    "trainer/step": ["trainer/models"], "trainer/run": ["trainer/step"], "trainer/report": ["trainer/run", "chart"],
    "trainer/sweep": ["trainer/run", "chart"], "trainer/verbs": ["trainer/sweep", "trainer/report"],
    "trainer": ["trainer/verbs"],
}
QUARANTINE = {  # third-party header: the files that may include it
    r"fmt/.*": "", r"nlohmann/.*": "core/|model/|data/|trainer/", r"xxhash\.h": r"core/hash\.cpp",
    r"omp\.h": "autograd/kernels/", r"cblas\.h": r"autograd/kernels/cpu/gemm\.cpp|model/svd_gram\.cpp",
    r"(.*/)?dnnl\w*\.hp*": r"autograd/kernels/cpu/gemm_onednn\.cpp", r"lapacke?\.h": r"model/svd(_gram)?\.cpp",
    r"pcre2\.h": r"data/pre_tokenizer\w*\.cpp", r"(zstd|utf8proc)\.h": r"data/\w+\.cpp",
    r"zlib\.h": r"data/\w+\.cpp|model/stored_zip\.cpp",
    r"mpi\.h": r"trainer/ranks/comm\.cpp", r"(hdf5|H5)\w*\.h": r"trainer/files/h5\w*\.cpp",
    r"yaml-cpp/.*": r"trainer/config/yaml\.cpp", r"CLI/.*": r"trainer/cli\w*\.cpp",
    r"spdlog/.*": r"trainer/files/log\.cpp", r"(sys/|linux/)?\w+(\.h)?": "",  # the last: system headers
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
MUST_PASS = """core/a.cpp <vector>, core/a.cpp <sys/stat.h>, core/a.cpp <fmt/format.h>, trainer/a.cpp "model/a.h",
  trainer/ranks/comm.cpp <mpi.h>, trainer/files/h5_set.cpp <hdf5.h>, autograd/ops/a.cpp "autograd/kernels/a.h" """
MUST_FAIL = """core/a.cpp "data/shard.h", model/a.cpp "data/shard.h", data/a.cpp "model/llama.h", core/a.h "file.h",
  autograd/core/a.h "autograd/tape.h", chart/a.cpp "trainer/a.h", autograd/kernels/a.h "autograd/ops.h", model/a.cpp "trainer/config/config.h",
  trainer/ranks/comm.h <mpi.h>, trainer/files/a.cpp "trainer/ranks/comm.h", trainer/run/a.cpp "trainer/verbs/verbs.h",
  trainer/report/a.cpp "trainer/sweep/plan.h", trainer/files/a.cpp "trainer/config/config.h", trainer/checkpoint/a.cpp "data/shard.h", trainer/step/trainer.cpp <hdf5.h>, model/a.cpp <Eigen/Dense>, model/a.cpp <cblas.h>"""


def layer_of(path):
    return max((layer for layer in LAYERS if path.startswith(layer + "/")), key=len, default=None)


def visible_from(layer):
    return {layer}.union(*map(visible_from, LAYERS[layer]))


def violation(path, bracket, header):
    """What is wrong with `header` in the file `path` (from the root); None if nothing."""
    if bracket == "<":
        allowed = next((a for h, a in QUARANTINE.items() if re.fullmatch(h, header)), None)
        if allowed is None:
            return f"<{header}> is unknown; give it a place in QUARANTINE"
        return None if re.match(allowed, path) else f"<{header}> belongs in {allowed} alone"
    if layer_of(header) not in visible_from(layer_of(path)):
        seen = ", ".join(sorted(visible_from(layer_of(path))))
        return f'{layer_of(path)} must not see "{header}"; only {seen}'


def violations(path, lines):
    found = ((n, INCLUDE.match(line)) for n, line in enumerate(lines, 1))
    problems = ((n, violation(path, *match.groups())) for n, match in found if match)
    return [f"{path}:{n}: error: {problem}" for n, problem in problems if problem]


def main(argument):
    if argument == "--self-test":
        checked = [(*c.split(), bad) for bad in (0, 1) for c in (MUST_PASS, MUST_FAIL)[bad].split(",")]
        found = [f"wrong verdict: {path} {header}" for path, header, bad in checked
                 if len(violations(path, [f"#  include {header}  // why"])) != bad]
    else:
        root = pathlib.Path(argument)
        checked = [p for top in {layer.split("/")[0] for layer in LAYERS}
                   for p in sorted((root / top).rglob("*")) if p.suffix in (".h", ".cpp")]
        found = [line for p in checked
                 for line in violations(str(p.relative_to(root)), p.read_text().splitlines())]
    print("\n".join(found) or f"{len(checked)} checked, no violation")
    return 1 if found or not checked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else __doc__)
