// Scalars of a configuration as text: what counts as a number, and what a key accepts. Nothing is
// coerced: 1.5, 1e3, 010, 0x10, 1_000, "12" and 2k are not integers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "trainer/config/fields.h"

namespace trainer {

// -?(0|[1-9][0-9]*), within int64.
std::optional<int64_t> parse_integer(std::string_view text);

// A decimal number with optional fraction and exponent; finite.
std::optional<double> parse_decimal(std::string_view text);

// A time with its unit, which is not optional: "45s", "90m", "11.5h", "2d". In seconds, at most ten
// years; 0 is no time.
std::optional<double> parse_duration(std::string_view text);

// An unquoted word that YAML readers take for a boolean, a number or null: "yes", "12", ".inf".
bool looks_typed(std::string_view text);

// ASCII letters in lower case, all else as it is.
std::string lower_case(std::string_view text);

// "integer > 0", "number in [0, 1)", "one of a | b".
std::string describe_integer(const Key& key);
std::string describe_number(const Key& key);
std::string describe_choices(const Key& key);

bool is_in_range(const Key& key, double value);

// Shortest text that reads back as the same number; 1.0e-08, as YAML 1.1 readers take 1e-08 for
// text.
std::string format_number(double value);

// Plain if no reader could take it for anything but this text, else double-quoted.
std::string yaml_text(const std::string& text);

}  // namespace trainer
