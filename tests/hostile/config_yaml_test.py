"""Hostile configurations (YM): the file as a whole, and keys on top of a good one."""
from harness import BAD_CONFIG, MODEL, OK, SOURCE, case, cases, main, support


def good(folder):
    support.write_shard(folder / "x.ds")
    return support.write_config(folder / "run.yaml", SOURCE, folder / "x.ds", folder / "runs")


def text(folder, content):
    (folder / "run.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return ["train", "run.yaml"]


def more(folder, content):
    """The good configuration and what follows it."""
    return text(folder, good(folder).read_text() + content)


def replace(folder, pair):
    old, new = pair
    before = good(folder).read_text()
    assert old in before, old
    return text(folder, before.replace(old, new))


def overrides(folder, values):
    good(folder)
    return ["train", "run.yaml", *values]


LR = "optimizer.learning_rate_scheduler.learning_rate"

cases("YM01", BAD_CONFIG, {
    "learing_rate": (("learning_rate: 1.0e-3", "learing_rate: 1.0e-3"), "run.yaml:11:39", "unknown key \"learing_rate\"",
                     f"did you mean '{LR}'?"),
    "section": (("tokens:", "tokns:"), "run.yaml:", "unknown key \"tokns\"", "did you mean 'tokens'?"),
}, lambda folder, pair: replace(folder, pair) if pair[0] != "tokens:" else more(folder, "tokns: {}\n"))

case("YM02 in_a_section", BAD_CONFIG, "run.yaml:14:1: ", 'the duplicate key "model"', "already set at line 3")(
    lambda folder: more(folder, "model: {}\n"))

cases("YM03", BAD_CONFIG, {
    "rate_with_a_unit": ([f"{LR}=1e-3s"], LR, "expected number", '"1e-3s"'),
    "length_2k": (["tokens.sequence_length=2k"], "tokens.sequence_length: expected integer", '"2k"', "without unit"),
    "time_without_unit": (["general.max_time=10"], "general.max_time: expected", "unit"),
    "time_with_a_wrong_unit": (["general.max_time=10y"], "general.max_time: expected", "10y"),
}, overrides)

cases("YM04", BAD_CONFIG, {word: ([f"{key}={value}"], key, "expected", "got") for word, key, value in [
    ("lr_inf", LR, ".inf"), ("lr_nan", LR, ".nan"), ("lr_negative", LR, "-1"), ("lr_zero", LR, "0"), ("lr_10", LR, "10"),
    ("weight_decay_5", "optimizer.weight_decay", "5"), ("beta_1", "optimizer.optimizer_factory.adam_beta2", "1.0"),
    ("beta_list", "optimizer.optimizer_factory.adam_beta1", "[0.9]"), ("eps_0", "optimizer.optimizer_factory.adam_eps", "0")]},
      overrides)

cases("YM05", BAD_CONFIG, {word: ([f"{key}={value}"], key, "expected integer", f"got {value}") for word, key, value in [
    ("batch_negative", "tokens.micro_batch_size", "-4"), ("batch_0", "tokens.micro_batch_size", "0"),
    ("batch_1.5", "tokens.micro_batch_size", "1.5"), ("batch_10^12", "tokens.global_batch_size", "1000000000000"),
    ("steps_0", "tokens.train_steps", "0")]}, overrides)
case("YM05 epochs", BAD_CONFIG, "unknown key \"epochs\"", "set tokens.train_steps")(
    lambda folder: more(folder, "epochs: 3\n"))

cases("YM06", BAD_CONFIG, {word: (["tokens.train_steps=" + value], "tokens.train_steps: expected integer", "got")
                           for word, value in [("octal", "010"), ("hexadecimal", "0x10"), ("underscore", "1_000"),
                                               ("exponent", "1e3"), ("quoted", "'6'"), ("yes", "yes"), ("on", "on")]},
      overrides)
case("YM06 tilde", BAD_CONFIG, 'run.yaml:13:50: error: expected a value, got "~"', "write null")(
    lambda folder: replace(folder, ("keep_last: 10", "keep_last: ~")))

NOT_SUPPORTED = "anchors/tags not supported"
cases("YM07", BAD_CONFIG, {
    "anchor": ("logging: &a {}\n", "run.yaml:14:10: ", "an anchor", NOT_SUPPORTED),
    "tag": ("logging: !!python/object/apply:os.system {}\n", "run.yaml:14:10: ", "the tag", NOT_SUPPORTED),
    "merge_key": ("logging: {<<: {}}\n", "run.yaml:14:11: ", "the merge key '<<'", NOT_SUPPORTED),
}, more)


case("YM07 alias_bomb", BAD_CONFIG, "anchors/tags not supported")(lambda folder: more(folder, "\n".join(
    ["logging: {}", "a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 31)])))

cases("YM08", BAD_CONFIG, {
    "nested_lists": ("a: " + "[" * 100_000, "run.yaml:1:", "expected at most 32 levels"),
    "nested_mappings": ("a: " + "{a: " * 50_000, "run.yaml:1:", "expected at most 32 levels"),
    "nested_blocks": ("\n".join(" " * i + "a:" for i in range(400)), "run.yaml:", "expected at most 32 levels"),
    "megabyte_of_brackets": ("[" * (1 << 20), "run.yaml:1:", "expected at most 32 levels"),
    "large": (b"#" * ((1 << 20) + 1), "run.yaml: error: size: expected at most 1048576 bytes, got 1048577"),
    "million_keys": ("a: [" + "1," * 500_000 + "]", "run.yaml:1:", "expected at most 20000 keys and values"),
}, text)

cases("YM09", BAD_CONFIG, {
    "tab": ("a:\n\t- b\n", "run.yaml:2:1: error: expected UTF-8 text, got a tab at byte 3"),
    "utf16": ("a: b\n".encode("utf-16"), "run.yaml:1:1: error: expected UTF-8 text, got UTF-16 at byte 0"),
    "not_utf8": (b"a: b\nc: \xff\n", "run.yaml:2:4: error: expected UTF-8 text, got an invalid sequence at byte 8"),
    "nul": (b"a: \0\n", "run.yaml:1:4", "control character 0x00 at byte 3"),
}, text)


@case("YM09 bom_and_crlf_are_fine", OK)
def _(folder):
    good(folder)
    content = (folder / "run.yaml").read_text().replace("\n", "\r\n")
    (folder / "run.yaml").write_bytes(b"\xef\xbb\xbf" + content.encode())
    return ["validate", "run.yaml"]


cases("YM10", BAD_CONFIG, {
    "two_documents": ("a: 1\n---\nb: 1\n", "run.yaml:", "expected one document"),
    "empty": ("", "run.yaml:1:1: error: expected a mapping of sections, got an empty file"),
    "comments": ("# nothing\n", "run.yaml:", "expected a mapping of sections"),
    "list": ("- a\n", "run.yaml:1:1: error: expected a mapping of sections, got a list"),
    "scalar": ("hello\n", "run.yaml:1:1: error: expected a mapping of sections"),
}, text)

cases("YM11", BAD_CONFIG, {
    "micro_batches": (["tokens.global_batch_size=9"], "tokens.global_batch_size: expected a multiple of micro_batch_size 2",
                      "the nearest are 8 and 10"),
    "shards_no_power": (["parallelism.reduction_shards=3"], "parallelism.reduction_shards: expected a power of two, got 3"),
    "shards_too_many": (["parallelism.reduction_shards=8"], "parallelism.reduction_shards: expected at most 4", "got 8"),
}, overrides)

cases("YM12", BAD_CONFIG, {
    "warmup": (["optimizer.learning_rate_scheduler.lr_warmup_steps=7"], "lr_warmup_steps: expected at most tokens.train_steps = 6, got 7"),
    "keep_none": (["checkpoints.keep_last=0"], "checkpoints.keep_last: expected integer > 0, got 0"),
}, overrides)

case("YM13 inside_the_model", BAD_CONFIG, "general.output_dir: expected a folder outside the model")(
    lambda folder: overrides(folder, [f"general.output_dir={MODEL}/runs"]))
case("YM13 is_the_model", BAD_CONFIG, "general.output_dir: expected a folder outside the model")(
    lambda folder: overrides(folder, [f"general.output_dir={MODEL}"]))



cases("YM14", BAD_CONFIG, {
    "tilde": (["model.init_from=~/model"], "model.init_from: expected a path", "~ and $VAR are not expanded"),
    "variable": (["model.init_from=$HOME/model"], "model.init_from: expected a path", "~ and $VAR are not expanded"),
    "newline": (['model.init_from="a\\nb"'], "model.init_from: expected a path on one line"),
    "long": (["model.init_from=" + "x" * 4097], "model.init_from: expected a path of at most 4095 bytes"),
}, overrides)

cases("YM15", BAD_CONFIG, {
    "no_key": (["=1"], "expected key=value"), "no_value": (["tokens"], "expected key=value"),
    "nowhere": (["data_stages.9.name=x"], "data_stages.9.name: expected a key, or a stage of the list"),
    "deep": ([".".join(["a"] * 20000) + "=1"], "a path that leads nowhere"),
    "unknown": (["tokens.train_step=1"], "override tokens.train_step=1", "did you mean 'tokens.train_steps'?"),
}, overrides)

main()
