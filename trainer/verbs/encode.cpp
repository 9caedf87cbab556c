#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/stop.h"
#include "data/text_reader.h"
#include "trainer/models/tokenizer_argument.h"
#include "trainer/verbs/report.h"
#include "trainer/verbs/verbs.h"

namespace trainer {

nlohmann::json run_encode(const EncodeOptions& options, Session& session) {
  const data::Tokenizer tokenizer = open_tokenizer(options.tokenizer).tokenizer;
  for (const std::string& note : tokenizer.notes()) session.say("note: " + core::printable(note));
  data::TextReader reader(options.in);
  core::AtomicFile out(options.out);
  data::Document document;
  int64_t lines = 0, tokens = 0;
  while (reader.next(document)) {
    core::throw_if_stopping();
    const std::vector<uint32_t> ids = tokenizer.encode(document.text, true);
    const std::vector<uint32_t> plain = tokenizer.encode(document.text, false);
    nlohmann::ordered_json line;
    line["ids"] = ids;
    line["ids_no_special"] = plain;
    line["decoded"] = tokenizer.decode(plain, false);
    line["decoded_skip_special"] = tokenizer.decode(ids, true);
    out.write(line.dump() + "\n");
    ++lines;
    tokens += static_cast<int64_t>(ids.size());
  }
  out.commit();
  Report report;
  report["out"] = options.out.string();
  report["lines"] = lines;
  report["tokens"] = tokens;
  report["vocab_size"] = tokenizer.vocab_size();
  report["template"] = tokenizer.template_description();
  report["tokenizer_hash"] = tokenizer.hash();
  if (!session.json) session.say(format_report(report));
  return report;
}

}  // namespace trainer
