"""Hostile tokenizer.json (TK)."""
import copy
import json

from harness import BAD_DATA, OK, TOKENIZER, case, cases, main

SMALL = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
         "pre_tokenizer": None, "post_processor": None, "decoder": None,
         "model": {"type": "BPE", "unk_token": "?", "fuse_unk": True, "byte_fallback": False,
                   "vocab": {"?": 0, "a": 1, "b": 2, "ab": 3}, "merges": ["a b"]}}


def tokenize(folder, text="ab"):
    (folder / "x.txt").write_text(text)
    return ["tokenize", "--tokenizer", "tokenizer.json", "--out", "made", "--eos", "none", "x.txt"]


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return name


def raw(folder, text):
    (folder / "tokenizer.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tokenize(folder)


def small(folder, changes):
    """The small tokenizer with {"model.vocab": value, ...}."""
    tokenizer = copy.deepcopy(SMALL)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = tokenizer
        for name in parents:
            node = node[name]
        node[last] = value
    return raw(folder, json.dumps(tokenizer))


def added(**settings):
    return {"id": 4, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True} | settings


def template(special_tokens, name="z"):
    return {"type": "TemplateProcessing", "pair": [], "special_tokens": special_tokens,
            "single": [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


cases("TK01", BAD_DATA, {
    "part_unknown": ({"model.merges": ["a z"]}, "tokenizer.json: error: model.merges[0]: expected the right part in the "
                     'vocabulary, got "z"'),
    "result_unknown": ({"model.merges": ["a b", "b a"]}, "model.merges[1]: expected the result of the merge in", '"ba"'),
    "no_string": ({"model.merges": [1]}, "model.merges[0]"),
}, small)


@case("TK02 merge_longer_than_every_token", BAD_DATA, "model.merges[1]: expected the result of the merge in the vocabulary")
def _(folder):
    return small(folder, {"model.merges": ["a b", "ab ab"]})


@case("TK02 tokens_of_a_megabyte", OK)
def _(folder):
    long = "a" * (1 << 20)
    return small(folder, {"model.vocab": {"?": 0, "a": 1, "b": 2, "ab": 3, long: 4, long + "b": 5},
                          "model.merges": ["a b", [long, "b"]][:1]})


cases("TK03", BAD_DATA, {
    "id_twice": ({"model.vocab": {"?": 0, "a": 0}}, 'tokenizer.json: error: model.vocab["a"]: expected an id of its own',
                 'got 0, the id of "?"'),
    "negative": ({"model.vocab": {"?": -1}}, 'model.vocab["?"]: expected integer from 0 to', "got -1"),
    "too_large": ({"model.vocab": {"?": 1 << 31}}, 'model.vocab["?"]: expected integer from 0 to', "got 2147483648"),
}, small)
case("TK03 token_twice", BAD_DATA, "tokenizer.json: error: JSON", 'duplicate key "a"')(
    lambda folder: raw(folder, '{"model": {"vocab": {"a": 0, "a": 1}}}'))


@case("TK03 gaps_are_noted", OK, "1 ids below 5 have no token")
def _(folder):
    return small(folder, {"model.vocab": {"?": 0, "a": 1, "b": 2, "ab": 4}})


cases("TK04", BAD_DATA, {
    "collides": ({"added_tokens": [added(id=1)]}, "added_tokens[0].id: expected an id that model.vocab does not give",
                 '"<x>"', '"a"'),
    "other_id": ({"added_tokens": [added(content="a")]}, "added_tokens[0].id: expected 1, the id of \"a\"", "got 4"),
    "template_names_nobody": ({"post_processor": template({})}, "post_processor.single[0].SpecialToken.id: expected a token "
                              "described in special_tokens"),
    "template_token_unknown": ({"post_processor": template({"z": {"id": "z", "ids": [9], "tokens": ["z"]}})},
                               "post_processor.special_tokens.z.tokens[0]: expected a token of the vocabulary", '"z"'),
    "template_id_wrong": ({"post_processor": template({"?": {"id": "?", "ids": [1], "tokens": ["?"]}}, "?")},
                          "ids[0]: expected 0, the id of", "got 1"),
}, small)

cases("TK05", BAD_DATA, {
    "nested_quantifiers": ({"pre_tokenizer": split("(a+)+$")}, "tokenizer.json: error: pre_tokenizer.pattern.Regex: expected "
                           "the pattern of GPT-2, Llama 3 or Qwen 2", '"(a+)+$"'),
    "megabyte": ({"pre_tokenizer": split("(" * (1 << 20))}, "pre_tokenizer.pattern.Regex: expected the pattern of"),
    "in_a_normalizer": ({"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+"}, "content": "b"}},
                        "normalizer.pattern: expected {\"String\": ...}"),
}, small)

case("TK06 byte_fallback", BAD_DATA, 'model.vocab: expected all 256 byte tokens', "256 missing", '"<0x00>"')(
    lambda folder: small(folder, {"model.byte_fallback": True}))

cases("TK07", BAD_DATA, {kind: ({"model.type": kind}, 'model.type: expected "BPE", the only model supported', f'got "{kind}"')
                         for kind in ["Unigram", "WordPiece", "WordLevel"]}, small)

cases("TK09", BAD_DATA, {
    "strip_negative": ({"decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0}}, "decoder.start: expected"),
    "strip_of_two": ({"decoder": {"type": "Strip", "content": "ab", "start": 1, "stop": 0}}, "decoder.content: expected one"),
}, small)

cases("TK10", BAD_DATA, {
    "lone_surrogate": ('{"version": "\\ud800"}', "tokenizer.json:byte ", "JSON: expected valid JSON", "surrogate"),
    "overlong": (b'{"\xc0\xaf": 1}', "tokenizer.json:byte ", "JSON: expected valid JSON", "UTF-8"),
}, raw)

case("TK11 pairs", OK)(lambda folder: small(folder, {"model.merges": [["a", "b"]]}))
cases("TK11", BAD_DATA, {
    "ambiguous": ({"model.merges": ["a  b"]}, "model.merges[0]: expected two tokens separated by one space"),
    "mixed": ({"model.merges": [["a", "b"], "a b"]}, "model.merges[1]: expected a pair of strings, like the first merge"),
}, small)


@case("TK12 many_merges", BAD_DATA, "tokenizer.json: error: model.merges: expected at most 4194304 merges")
def _(folder):
    text = json.dumps(SMALL).replace('["a b"]', "[" + '"",' * (4 << 20) + '""]')
    return raw(folder, text)


@case("TK12 large_file", BAD_DATA, "tokenizer.json: error: size: expected at most 268435456 bytes, got 1073741824")
def _(folder):
    with open(folder / "tokenizer.json", "wb") as file:
        file.truncate(1 << 30)
    return tokenize(folder)


case("TK12 many_added_tokens", BAD_DATA, "added_tokens: expected at most 65536 tokens, got 100000")(
    lambda folder: small(folder, {"added_tokens": [added(id=i + 4, content=f"<{i}>") for i in range(100_000)]}))


def nested(depth):
    node = {"type": "NFC"}
    for _ in range(depth):
        node = {"type": "Sequence", "normalizers": [node]}
    return node


case("TK13 nested", BAD_DATA, "tokenizer.json: error: JSON", "nesting deeper than 64")(
    lambda folder: small(folder, {"normalizer": nested(40)}))
case("TK13 nested_very_deep", BAD_DATA, "tokenizer.json: error: JSON", "nesting deeper than 64")(
    lambda folder: raw(folder, '{"normalizer": ' + '{"type": "Sequence", "normalizers": [' * 100_000))
case("TK13 long", BAD_DATA, "normalizer.normalizers: expected at most 64 elements, got 100000")(
    lambda folder: small(folder, {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100_000}}))
case("TK13 doubling", BAD_DATA, "text: expected at most 32 times its bytes and 4096 more after the tokenizer has")(
    lambda folder: small(folder, {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 60}}))

case("TK14 truncation_and_padding", OK, "truncation of tokenizer.json does not apply", "padding of tokenizer.json")(
    lambda folder: small(folder, {"truncation": {"max_length": 1}, "padding": {"length": 1}}))

cases("TK15", BAD_DATA, {
    "no_unknown_token": ({"model.unk_token": None}, "model: expected unk_token, byte_fallback or a ByteLevel pre-tokenizer"),
    "not_in_the_vocabulary": ({"model.unk_token": "z"}, "model.unk_token: expected a token of the vocabulary", '"z"'),
}, small)


def sequence(kind, key, *steps):
    return {kind: {"type": "Sequence", key: list(steps)}}


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


case("TK13 prepended_to_every_stretch", BAD_DATA, "text: expected at most 32 times its bytes and 4096 more")(
    lambda folder: small(folder, {"added_tokens": [added()], "normalizer": {"type": "Prepend", "prepend": "a" * 256}})
    [:-1] + [write(folder, "x.txt", "<x>a" * 100_000)])

case("TK17 marks_on_marks", BAD_DATA, "pre_tokenizer.pretokenizers[1]: expected one Metaspace, got another")(
    lambda folder: small(folder, sequence("pre_tokenizer", "pretokenizers",
                                          *[{"type": "Metaspace", "replacement": "_-"[i % 2]} for i in range(64)])))


@case("TK18 marks_out_of_order", OK)
def _(folder):
    return small(folder, {"normalizer": {"type": "NFC"}})[:-1] + [
        write(folder, "x.txt", "a" + "\u0301" * 100_000 + "\u0323" * 100_000 + "\u0f73" * 100_000)]


MANY = {"id": "z", "ids": [0] * 5000, "tokens": ["?"] * 5000}
ONE = {"id": "z", "ids": [0], "tokens": ["?"]}
LONG = "n" * 60_000
cases("TK19", BAD_DATA, {
    "many_ids": ({"post_processor": template({"z": MANY})}, "special_tokens.z.ids: expected at most 1024 ids around a document"),
    "many_pieces": ({"post_processor": template({"z": ONE}) | {"single": template({})["single"][:1] * 100_000}},
                    "post_processor.single: expected at most 1025 elements, got 100000"),
    "many_templates": (sequence("post_processor", "processors", *[template({"z": ONE})] * 65),
                       "post_processor.processors: expected at most 64 elements, got 65"),
    "long_name": ({"post_processor": template({LONG: {"id": LONG, "ids": [0] * 1024, "tokens": ["?"] * 1023 + ["!"]}}, LONG)},
                  'post_processor.special_tokens["nnnn', '...].tokens[1023]: expected a token of the vocabulary'),
}, small)
case("TK19 names_for_a_terminal", OK, r'"\u001b[2J" $A')(
    lambda folder: small(folder, {"post_processor": template({"\x1b[2J": ONE}, "\x1b[2J")}))

cases("TK20", BAD_DATA, {
    kind: (sequence(kind, key, *[0] * 2_000_000), f"{kind}.{key}: expected at most 64 elements, got 2000000")
    for kind, key in [("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("decoder", "decoders"),
                      ("post_processor", "processors")]}, small)

cases("TK21", BAD_DATA, {
    "pattern": ({"normalizer": replace("a" * 60_000 + "b", "")},
                "normalizer.pattern.String: expected at most 256 bytes, got 60001"),
    "content": ({"decoder": replace("a", "b" * 257)}, "decoder.content: expected at most 256 bytes, got 257"),
    "prepend": ({"normalizer": {"type": "Prepend", "prepend": "a" * 257}}, "normalizer.prepend: expected at most 256"),
}, small)

case("TK00 the_small_one_is_fine", OK)(lambda folder: small(folder, {}))


@case("TK00 half_of_a_real_one", BAD_DATA, "tokenizer.json:byte ", "JSON: expected valid JSON")
def _(folder):
    content = TOKENIZER.read_bytes()
    return raw(folder, content[:len(content) // 2])


main()
