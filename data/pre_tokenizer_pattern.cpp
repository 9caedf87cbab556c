#include "data/pre_tokenizer_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <string>
#include <utility>

#include "core/error.h"

namespace data {
namespace {

// `source` is the pattern as tokenizer.json spells it. `translated` means the same to PCRE2: there
// \s would also match U+180E, which is not White_Space, so the class is written out.
struct KnownPattern {
  std::string_view source;
  const char* translated;
};

#define SPACES "\\t-\\r\\x{85}\\p{Z}"
#define WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST                                                                                \
  "| ?[^" SPACES "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACES "]*[\\r\\n]+|[" SPACES "]+(?![^" SPACES \
  "])|[" SPACES "]+"

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::array<KnownPattern, 3> kKnown = {{
    {kGpt2, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES "\\p{L}\\p{N}]+|[" SPACES
            "]+(?![^" SPACES "])|[" SPACES "]+"},
    // Llama 3
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     WORDS "\\p{N}{1,3}" REST},
    // Qwen 2
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     WORDS "\\p{N}" REST},
}};

#undef SPACES
#undef WORDS
#undef REST

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// Match state that a thread reuses; patterns without groups need a single pair of offsets.
struct Matcher {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);

  Matcher() {
    if (data == nullptr || context == nullptr)
      core::fail(core::ExitCode::kOutOfMemory, {.field = "PCRE2 match state"});
    pcre2_set_match_limit(context, 100'000'000);
    pcre2_set_heap_limit(context, 64 * 1024);  // KiB
  }
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;
  ~Matcher() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

}  // namespace

struct SplitPattern::Code {
  explicit Code(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr);
    if (code == nullptr)
      core::fail(core::ExitCode::kInternal,
                 {.field = "PCRE2 pattern", .found = pcre2_message(error)});
    // Where the system forbids executable memory, pcre2_match interprets: slower, same answers.
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }

  pcre2_code* code;
};

SplitPattern::SplitPattern(std::shared_ptr<const Code> code) : code_(std::move(code)) {}

std::optional<SplitPattern> SplitPattern::find(std::string_view source) {
  for (const KnownPattern& known : kKnown)
    if (known.source == source) return SplitPattern(std::make_shared<const Code>(known.translated));
  return std::nullopt;
}

SplitPattern SplitPattern::gpt2() { return *find(kGpt2); }

size_t SplitPattern::match_end(std::string_view text, size_t at) const {
  thread_local const Matcher matcher;
  const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                at, PCRE2_NO_UTF_CHECK, matcher.data, matcher.context);
  if (found < 0) {
    core::fail(core::ExitCode::kBadData, {.place = "byte " + std::to_string(at),
                                          .field = "text",
                                          .expected = "a word the pre-tokenizer can find",
                                          .found = pcre2_message(found)});
  }
  return pcre2_get_ovector_pointer(matcher.data)[1];
}

}  // namespace data
