#include "trainer/report/report.h"

#include <fmt/format.h>

#include <exception>

#include "chart/svg.h"
#include "core/error.h"
#include "core/file.h"
#include "trainer/report/conversion_section.h"
#include "trainer/report/sweep_section.h"
#include "trainer/report/training_section.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;

void add_run_sections(const std::vector<RunRecord>& runs, int64_t pretraining_tokens,
                      const std::string& of_what, const std::string& prefix,
                      std::vector<ReportSection>& sections) {
  std::vector<RunRecord> trained, converted;
  for (const RunRecord& run : runs) {
    if (!run.curves.empty()) trained.push_back(run);
    if (run.conversion) converted.push_back(run);
  }
  const auto add = [&](ReportSection section) {
    section.title += of_what;
    section.prefix = prefix;
    sections.push_back(std::move(section));
  };
  if (!trained.empty()) add(training_section(trained));
  if (!converted.empty()) add(conversion_section(converted, pretraining_tokens));
}

}  // namespace

ReportContents read_report_inputs(const std::vector<fs::path>& inputs) {
  ReportContents contents;
  std::exception_ptr first;
  for (const fs::path& input : inputs) {
    try {
      if (is_sweep(input))
        contents.sweeps.push_back(read_sweep(input));
      else
        contents.runs.push_back(read_run(input));
    } catch (const core::Error& error) {
      if (first == nullptr) first = std::current_exception();
      contents.skipped.emplace_back(error.what());
    }
  }
  if (contents.runs.empty() && contents.sweeps.empty() && first != nullptr)
    std::rethrow_exception(first);
  name_apart(contents.runs);
  return contents;
}

std::vector<ReportSection> report_sections(const ReportContents& contents,
                                           int64_t pretraining_tokens) {
  std::vector<ReportSection> sections;
  if (!contents.skipped.empty())
    sections.push_back(
        {.title = "Left out", .paragraphs = contents.skipped, .figures = {}, .tables = {}});
  for (size_t i = 0; i < contents.sweeps.size(); ++i) {
    const SweepRecord& sweep = contents.sweeps[i];
    const std::string number = i == 0 ? "" : std::to_string(i + 1);
    sections.push_back(sweep_section(sweep));
    sections.back().prefix = fmt::format("sweep{}_", number);
    add_run_sections(sweep.runs, pretraining_tokens, " of the trials",
                     fmt::format("trials{}_", number), sections);
  }
  add_run_sections(contents.runs, pretraining_tokens, "", "", sections);
  return sections;
}

std::vector<fs::path> write_report(const fs::path& folder, const std::string& title,
                                   const std::vector<ReportSection>& sections) {
  core::create_directories(folder);
  std::vector<fs::path> written;
  const auto write = [&](const std::string& name, const std::string& text) {
    core::write_file_atomically(folder / name, text);
    written.push_back(folder / name);
  };
  write("report.html", make_page(title, sections));
  for (const ReportSection& section : sections) {
    for (const Figure& figure : section.figures)
      write(section.prefix + figure.file + ".svg", chart::standalone_svg(figure.drawing));
    for (const NamedTable& table : section.tables) {
      write(section.prefix + table.file + ".csv", chart::to_csv(table.table));
      write(section.prefix + table.file + ".md", chart::to_markdown(table.table));
    }
  }
  return written;
}

}  // namespace trainer
