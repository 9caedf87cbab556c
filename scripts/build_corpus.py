#!/usr/bin/env python3
"""Build a real-English training corpus from Debian documentation packages.

Usage: build_corpus.py OUT_DIR [--cache DEB_DIR] [--groups prose,reference,code]
                       [--packages NAME,NAME...] [--held-out held_out_sources.txt]

Downloads the packages with `apt-get download` (run `apt-get update` once before),
unpacks them without installing, turns HTML and text pages into plain text, drops
repeated paragraphs, and writes for each group

    OUT_DIR/<group>.train.jsonl     one {"text": ..., "source": ...} a line
    OUT_DIR/<group>.val.jsonl       about 2 % of the documents, held out by hash

Same packages in, same bytes out: documents are sorted, and the split is by a hash
of the text. A cut corpus (--packages) drops fewer repeated paragraphs, so the hash of
some texts changes: give --held-out the list that the full build held out, and the
validation documents stay ones that the trained models never saw. Needs only the Python
standard library. The texts keep their packages' licences.

The files appear all at once at the end. Exit code 75: a package could not be downloaded.
"""
import argparse, gzip, hashlib, html.parser, json, os, pathlib, re, subprocess, sys, tempfile, time

GROUPS = {
    "prose": ["anarchism", "bible-kjv-text", "debian-handbook", "debian-faq",
              "developers-reference", "debian-reference-en", "installation-guide-amd64"],
    "reference": ["dict-gcide", "dict-foldoc", "dict-jargon", "gimp-help-en",
                  "postgresql-doc-15", "sqlite3-doc", "git-doc"],
    "code": ["python3.11-doc", "perl-doc", "linux-doc-6.1", "python-scipy-doc", "vim-doc",
             "octave-doc", "r-doc-html", "gnuplot-doc", "erlang-doc"],
}
SKIP_TAGS = {"script", "style", "nav", "head", "footer", "svg", "form", "button"}
BLOCK_TAGS = {"p", "div", "li", "tr", "br", "h1", "h2", "h3", "h4", "h5", "pre", "dd", "dt",
              "section", "article", "table", "blockquote"}
OTHER_LANGUAGES = re.compile(
    r"/(?:[a-z]{2}-[A-Z]{2}|ar|cs|da|de|el|es|fa|fi|fr|hr|hu|id|it|ja|ko|"
    r"nb|nl|pl|pt|ro|ru|sv|tr|uk|vi|zh)(?:[-_][A-Za-z]+)?/|"
    r"\.(?!en\b)[a-z]{2}(?:_[A-Z]{2})?\.(?:html|txt)")
DOWNLOAD_FAILED = 75
SECONDS_BETWEEN_LINES = 5


class PageText(html.parser.HTMLParser):
    """The visible text of an HTML page, a newline at every block's border."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.skipped, self.preformatted = [], 0, 0

    def handle_starttag(self, tag, attrs):
        if tag in SKIP_TAGS:
            self.skipped += 1
        if tag == "pre":
            self.preformatted += 1
        if tag in BLOCK_TAGS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        if tag in SKIP_TAGS and self.skipped:
            self.skipped -= 1
        if tag == "pre" and self.preformatted:
            self.preformatted -= 1
        if tag in BLOCK_TAGS:
            self.parts.append("\n")

    def handle_data(self, data):
        if not self.skipped:
            self.parts.append(data if self.preformatted else re.sub(r"\s+", " ", data))

    def text(self):
        return "".join(self.parts)


def is_boilerplate(name):
    return ("copyright" in name or "changelog" in name.lower() or "/_sources/" in name
            or "genindex" in name or OTHER_LANGUAGES.search("/" + name))


def pages(package, name, path):
    """Yield (source, raw text) of one file, nothing when it is no readable text."""
    if name.endswith(".dict.dz"):
        raw = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        for i in range(0, len(raw), 20000):
            yield f"{package}/{name}#{i}", raw[i:i + 20000]
    elif name.endswith((".txt.gz", ".rst.gz")):
        yield f"{package}/{name}", gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
    elif name.endswith((".html", ".htm", ".xhtml", ".html.gz")):
        data = path.read_bytes()
        if name.endswith(".gz"):
            data = gzip.decompress(data)
        parser = PageText()
        parser.feed(data.decode("utf-8", "replace"))
        yield f"{package}/{name}", parser.text()
    elif (name.endswith((".txt", ".rst", ".pod", ".raw"))
          or (package == "bible-kjv-text" and "bible" in name)):
        yield f"{package}/{name}", path.read_text("utf-8", "replace")


def documents(package, root):
    """Yield (source, raw text) for every readable page of one unpacked package."""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not path.is_file() or path.is_symlink() or is_boilerplate(name):
            continue
        try:
            yield from pages(package, name, path)
        except (OSError, EOFError, gzip.BadGzipFile, AssertionError):
            continue  # a damaged page is no loss


def clean(text, seen):
    """Normalise blank lines and drop paragraphs that have been seen before."""
    out = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r", "")):
        lines = paragraph.strip("\n").split("\n")
        paragraph = "\n".join(line.rstrip() for line in lines if line.strip())
        if len(paragraph) < 2 or "\ufffd" in paragraph or "\0" in paragraph:
            continue
        key = hashlib.blake2b(re.sub(r"\s+", " ", paragraph).encode(), digest_size=8).digest()
        if len(paragraph) > 40:
            if key in seen:
                continue
            seen.add(key)
        out.append(paragraph)
    return "\n\n".join(out)


def say(line):
    print(f"corpus: {line}", flush=True)


def fetch(package, cache):
    """The package's file in `cache`, downloaded when it is not there; whole or not at all."""
    found = sorted(cache.glob(f"{package}_*.deb"))
    if found:
        return found[-1]
    say(f"{package}: downloading")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        run = subprocess.run(["apt-get", "download", "-q", package], cwd=folder, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
        found = sorted(pathlib.Path(folder).glob("*.deb"))
        if run.returncode or not found:
            reasons = [line[2:].strip() for line in run.stderr.splitlines() if line[:2] == "E:"]
            print(f"corpus: error: cannot download the Debian package {package}: "
                  f"{reasons[0] if reasons else 'apt-get download failed'}; check the network, run "
                  f"apt-get update as root, or put the .deb into {cache}", file=sys.stderr)
            sys.exit(DOWNLOAD_FAILED)
        return found[0].replace(cache / found[0].name)


def texts(package, deb, seen):
    """Yield (source, clean text) of a package, saying now and then how far it is."""
    count, said = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg", "-x", deb, folder], check=True)
        for source, raw in documents(package, pathlib.Path(folder)):
            text = clean(raw, seen)
            if len(text) < 400:
                continue
            yield source, text
            count += 1
            if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                say(f"{package}: {count} documents")


def build_group(group, debs, held_out, seen, out):
    """Write OUT/<group>.<split>.jsonl.part and say what they hold."""
    counts = {"train": [0, 0], "val": [0, 0]}
    files = {split: open(out / f"{group}.{split}.jsonl.part", "w", encoding="utf-8")
             for split in counts}
    for package, deb in debs.items():
        for source, text in texts(package, deb, seen):
            held = (source in held_out if held_out
                    else hashlib.sha256(text.encode()).digest()[0] < 5)
            split = "val" if held else "train"
            line = json.dumps({"text": text, "source": source}, ensure_ascii=False)
            files[split].write(line + "\n")
            counts[split][0] += 1
            counts[split][1] += len(text.encode())
    for split, (count, size) in counts.items():
        files[split].close()
        say(f"{group}.{split}: {count} documents, {size / 1e6:.1f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--cache", type=pathlib.Path, help="folder that keeps the packages")
    parser.add_argument("--groups", default="prose,reference,code")
    parser.add_argument("--packages", default="", help="only these packages of the groups")
    parser.add_argument("--held-out", type=pathlib.Path,
                        help="sources that go to val; all others to train")
    args = parser.parse_args()
    groups = args.groups.split(",")
    only = set(filter(None, args.packages.split(",")))
    unknown = (set(groups) - set(GROUPS)) | (only - set(sum(GROUPS.values(), [])))
    if unknown:
        parser.error(f"unknown group or package: {', '.join(sorted(unknown))}")
    held_out = set(args.held_out.read_text().split("\n")) if args.held_out else None
    cache = (args.cache or args.out / "debs").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    debs = {group: {package: fetch(package, cache) for package in GROUPS[group]
                    if not only or package in only} for group in groups}
    seen = set()
    for group in groups:
        build_group(group, debs[group], held_out, seen, args.out)
    for group in groups:
        for split in ("train", "val"):
            os.replace(args.out / f"{group}.{split}.jsonl.part", args.out / f"{group}.{split}.jsonl")


if __name__ == "__main__":
    sys.exit(main())
