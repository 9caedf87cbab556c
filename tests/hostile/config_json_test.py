"""Hostile config.json (CF)."""
import json

from harness import BAD_DATA, MODEL, OK, case, cases, copy_model, evaluate, main


def change(folder, settings):
    """The test model; a setting None is left out."""
    model = copy_model(folder, *[key for key, value in settings.items() if value is None],
                       **{key: value for key, value in settings.items() if value is not None})
    return evaluate(folder, model)


def whole_text(folder, text):
    model = copy_model(folder)
    (model / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return evaluate(folder, model)


def with_number(folder, number):
    """A hidden_size that no JSON writer of ours would write."""
    text = json.dumps(json.loads((MODEL / "config.json").read_text()) | {"hidden_size": "@"})
    return whole_text(folder, text.replace('"@"', number))


cases("CF01", BAD_DATA, {
    "missing": ({"vocab_size": None}, "config.json: error: vocab_size: expected an integer from 1 to", "got nothing"),
    "string": ({"hidden_size": "48"}, "config.json: error: hidden_size: expected an integer", 'got "48"'),
    "float": ({"hidden_size": 48.0}, "hidden_size: expected an integer", "got 48.0"),
    "boolean": ({"num_hidden_layers": True}, "num_hidden_layers: expected an integer", "got true"),
}, change)
case("CF01 null", BAD_DATA, "config.json: error: hidden_size: expected an integer", "got null")(
    lambda folder: with_number(folder, "null"))

cases("CF02", BAD_DATA, {
    "hidden_size": ({"head_dim": None, "hidden_size": 50}, "hidden_size: expected a multiple of 4 heads, got 50"),
    "kv_heads": ({"num_key_value_heads": 3}, "num_key_value_heads: expected a divisor of 4 heads, got 3"),
    "odd_head": ({"head_dim": 13}, "head_dim: expected an even number, for RoPE, got 13"),
}, change)

cases("CF03", BAD_DATA, {word: (text, "config.json", field) for word, text, field in [
    ("zero", "0", "hidden_size: expected an integer from 1"), ("negative", "-48", "hidden_size"),
    ("2_to_31", "2147483648", "hidden_size"), ("too_large_for_a_double", "1e400", "JSON"),
    ("10_to_30", "1" + "0" * 30, "hidden_size"), ("64_bits", "18446744073709551615", "hidden_size")]}, with_number)

case("CF04 layers", BAD_DATA, "num_hidden_layers: expected an integer from 1 to 1024, got 1000000000")(
    lambda folder: change(folder, {"num_hidden_layers": 10**9}))
case("CF04 heads", BAD_DATA, "config.json", "num_attention_heads * head_dim: expected at most 16777216")(
    lambda folder: change(folder, {"num_attention_heads": 1 << 20, "num_key_value_heads": 1, "head_dim": 1024}))

case("CF05 vocabulary", BAD_DATA, "model.embed_tokens.weight: error: shape: expected [98, 48]", "vocab_size", "got [97, 48]")(
    lambda folder: change(folder, {"vocab_size": 98}))

cases("CF06", BAD_DATA, {
    "theta_zero": ({"rope_theta": 0}, "config.json: error: rope_theta: expected a number from", "got 0"),
    "theta_negative": ({"rope_theta": -1.0}, "rope_theta", "got -1"),
    "unknown_type": ({"rope_scaling": {"rope_type": "spiral", "factor": 2.0}}, "rope_scaling.rope_type", "got spiral"),
    "factor_zero": ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "rope_scaling.factor", "got 0"),
}, change)
case("CF06 theta_nan", BAD_DATA, "config.json:byte", "JSON")(
    lambda folder: whole_text(folder, (MODEL / "config.json").read_text().replace("{", '{"rope_theta": NaN,', 1)))

cases("CF07", BAD_DATA, {
    "unknown": ({"architectures": ["EvilForCausalLM"]}, "architectures: expected [\"LlamaForCausalLM\"]", "EvilForCausalLM"),
    "two": ({"architectures": ["LlamaForCausalLM", "X"]}, "architectures: expected"),
    "model_type": ({"model_type": "gpt2"}, "model_type: expected llama, qwen2, qwen3 or mistral, got gpt2"),
}, change)


@case("CF07 remote_code_is_never_run", OK, "unknown keys are ignored: 1 (auto_map)")
def _(folder):
    command = change(folder, {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}})
    (folder / "model/evil.py").write_text("raise SystemExit('ran')\n")
    return command


case("CF08 duplicate_key", BAD_DATA, "config.json: error: JSON", 'duplicate key "vocab_size"')(
    lambda folder: whole_text(folder, '{"vocab_size": 1, "vocab_size": 2}'))
case("CF08 unknown_key", OK, "unknown keys are ignored: 1 (zzz)")(lambda folder: change(folder, {"zzz": 1}))

case("CF09 untied_without_a_head", BAD_DATA, "missing 1 (lm_head.weight)", "tie_word_embeddings")(
    lambda folder: change(folder, {"tie_word_embeddings": False}))

cases("CF10", BAD_DATA, {
    "zero": ({"rms_norm_eps": 0}, "config.json: error: rms_norm_eps: expected a number from", "got 0"),
    "negative": ({"rms_norm_eps": -1e-5}, "rms_norm_eps", "got -1e-05"),
    "tiny": ({"rms_norm_eps": 1e-30}, "rms_norm_eps", "got 1e-30"),
}, change)
case("CF10 torch_dtype_is_not_used", OK, "5.04883")(lambda folder: change(folder, {"torch_dtype": "float7"}))

case("CF11 quantized", BAD_DATA, "quantization_config: expected 0 or nothing", "quantized weights are not read")(
    lambda folder: change(folder, {"quantization_config": {"bits": 4}}))

cases("CF12", BAD_DATA, {
    "empty": ("", "config.json:byte 1: error: JSON: expected valid JSON"),
    "list": ("[]", "config.json: error: expected an object, got []"),
    "nested": ('{"a":' * 100_000, "config.json: error: JSON", "nesting deeper than 64"),
    "large": (b" " * ((16 << 20) + 1), "config.json: error: size: expected at most 16777216 bytes, got 16777217"),
    "values": ("[" + "0," * (1 << 22) + "0]", "config.json: error: expected an object"),
}, whole_text)

main()
