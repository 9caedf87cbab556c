#include "trainer/report/report.h"

#include <fmt/format.h>

#include "trainer/verbs/verbs.h"

namespace trainer {
namespace {

std::string title_of(const ReportContents& contents) {
  const size_t sweeps = contents.sweeps.size(), runs = contents.runs.size();
  if (sweeps + runs == 1)
    return "mha2mla: " + (sweeps == 1 ? contents.sweeps.front().name : contents.runs.front().name);
  return sweeps == 0 ? fmt::format("mha2mla: {} runs", runs)
                     : fmt::format("mha2mla: {} sweeps, {} runs", sweeps, runs);
}

}  // namespace

nlohmann::json run_report(const ReportOptions& options, Session& session) {
  const ReportContents contents = read_report_inputs(options.inputs);
  for (const std::string& line : contents.skipped) session.say("left out: " + line);
  const std::string title = title_of(contents);
  const std::vector<fs::path> written =
      write_report(options.out, title, report_sections(contents, options.pretraining_tokens));
  nlohmann::json result = {{"report", written.front().string()},
                           {"files", nlohmann::json::array()},
                           {"runs", nlohmann::json::array()},
                           {"sweeps", nlohmann::json::array()},
                           {"skipped", contents.skipped}};
  for (const fs::path& file : written) result["files"].push_back(file.string());
  for (const RunRecord& run : contents.runs) result["runs"].push_back(run.path.string());
  session.say(
      fmt::format("{}, and {} files beside it", written.front().string(), written.size() - 1));
  return result;
}

}  // namespace trainer
