#include "trainer/files/leftovers.h"

#include <algorithm>
#include <array>

namespace trainer {
namespace {

constexpr size_t kNonceDigits = 16;

bool is_decimal_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex_digit(char c) { return is_decimal_digit(c) || (c >= 'a' && c <= 'f'); }

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_decimal_digit);
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

bool is_abandoned_folder(std::string_view name) {
  if (!take_prefix(name, ".tmp-") && !take_prefix(name, ".trash-")) return false;
  if (name.ends_with(".old")) name.remove_suffix(4);
  const size_t dash = name.find('-');
  if (dash == std::string_view::npos) return false;
  const std::string_view tag = name.substr(0, dash), nonce = name.substr(dash + 1);
  return (tag == "model" || is_number(tag)) && nonce.size() == kNonceDigits &&
         std::all_of(nonce.begin(), nonce.end(), is_hex_digit);
}

bool is_abandoned_file(std::string_view name) {
  constexpr std::array<std::string_view, 8> kFiles = {"LATEST",
                                                      "status.json",
                                                      "result.json",
                                                      "config.yaml",
                                                      "config.resolved.yaml",
                                                      "metrics.jsonl",
                                                      "metrics.csv",
                                                      "metrics.discarded.jsonl"};
  const size_t at = name.rfind(".tmp.");
  if (at == std::string_view::npos || !is_number(name.substr(at + 5))) return false;
  const std::string_view target = name.substr(0, at);
  return std::find(kFiles.begin(), kFiles.end(), target) != kFiles.end() ||
         (target.starts_with("hang-rank") && target.ends_with(".txt"));
}

}  // namespace trainer
