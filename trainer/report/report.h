// A report of runs and sweeps: what is read, what is left out, and the files it becomes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/report/page.h"
#include "trainer/report/run_record.h"
#include "trainer/report/sweep_record.h"

namespace trainer {

struct ReportContents {
  std::vector<RunRecord> runs;
  std::vector<SweepRecord> sweeps;
  std::vector<std::string> skipped;  // one line for each input that could not be read
};

// Throws what the first input threw if none of them could be read.
ReportContents read_report_inputs(const std::vector<std::filesystem::path>& inputs);

// `pretraining_tokens` of the source models, 0 if unknown.
std::vector<ReportSection> report_sections(const ReportContents& contents,
                                           int64_t pretraining_tokens);

// Makes `folder` if need be and replaces in it report.html, the SVGs and the tables. Returns the
// paths that it wrote, the page first. Throws kIo, kPermission.
std::vector<std::filesystem::path> write_report(const std::filesystem::path& folder,
                                                const std::string& title,
                                                const std::vector<ReportSection>& sections);

}  // namespace trainer
