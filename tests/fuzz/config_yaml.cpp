// A configuration: YAML, then overrides, one after every line "%%". Oracle: what is accepted,
// written out with every value explicit, reads back as the same.
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "trainer/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::string_view kSeparator = "\n%%\n";
  std::string text = fuzz::text_of(data, size);
  std::vector<std::string> overrides;
  for (size_t at; (at = text.rfind(kSeparator)) != std::string::npos; text.resize(at))
    overrides.insert(overrides.begin(), text.substr(at + kSeparator.size()));
  trainer::Config config;
  if (!fuzz::accepts([&] { config = trainer::parse_config(text, "/x/run.yaml", overrides); },
                     false))
    return 0;
  const std::string dumped = trainer::dump_resolved(config);
  const trainer::Config again = trainer::parse_config(dumped, "/y/run.yaml");
  fuzz::require(again == config, "a resolved configuration reads back as the same");
  fuzz::require(trainer::incompatible_changes(config, again).empty(), "nothing changed");
  for (const std::string& line : trainer::config_warnings(config))
    fuzz::require(!line.empty(), "a warning says something");
  return 0;
}
