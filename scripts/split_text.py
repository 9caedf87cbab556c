#!/usr/bin/env python3
"""Split the user's own text into a training and a validation part.

Usage: split_text.py PREFIX FILE...     writes PREFIX.train.jsonl and PREFIX.val.jsonl

FILE is .txt (one document) or .jsonl (one {"text": ...} a line), either with .gz. The last 5 % of
the text, in the order given and cut at the end of a line, is held out. The files appear whole.
"""
import gzip, json, os, sys

HELD_OUT = 0.05
LEAST_CHARACTERS = 40_000  # a validation part of fewer than 2,000 characters measures nothing


def fail(message):
    sys.exit(f"split_text: error: {message}")


def documents(path):
    plain = path.removesuffix(".gz")
    if not plain.endswith((".txt", ".jsonl")):
        fail(f"{path}: expected .txt or .jsonl, either with .gz; unpack or convert it first")
    try:
        with (gzip.open if plain != path else open)(path, "rt", encoding="utf-8") as file:
            if plain.endswith(".txt"):
                yield file.read()
                return
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                    fail(f'{path}:{number}: expected an object with a string "text"')
                yield record["text"]
    except json.JSONDecodeError as error:
        fail(f"{path}:{number}: not JSON: {error.msg}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        fail(f"{path}: {getattr(error, 'strerror', None) or error}")


def split(texts):
    """Returns (train, val), the last document that counts for both cut at the end of a line."""
    wanted = int(HELD_OUT * sum(map(len, texts)))
    train, val = list(texts), []
    while wanted > 0 and len(train[-1]) <= wanted:
        wanted -= len(train[-1])
        val.insert(0, train.pop())
    cut = train[-1].rfind("\n", 0, len(train[-1]) - wanted) + 1
    if wanted > 0 and cut > 0:
        val.insert(0, train[-1][cut:])
        train[-1] = train[-1][:cut]
    elif not val:
        val.insert(0, train[-1][-wanted:])
        train[-1] = train[-1][:-wanted]
    return train, val


def main(prefix, paths):
    texts = [text for path in paths for text in documents(path) if text]
    size = sum(map(len, texts))
    if size < LEAST_CHARACTERS:
        fail(f"{' '.join(paths)}: {size:,} characters of text; at least {LEAST_CHARACTERS:,} are "
             "needed to train and validate")
    for name, part in zip(("train", "val"), split(texts)):
        target = f"{prefix}.{name}.jsonl"
        with open(target + ".part", "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in part)
        os.replace(target + ".part", target)
        print(f"own.{name}: {len(part)} documents, {sum(map(len, part)) / 1e6:.2f} M characters")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
