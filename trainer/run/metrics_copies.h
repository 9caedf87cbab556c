// Copies of metrics.jsonl for other tools, line by line: metrics.csv, and events for TensorBoard in
// tb/. Nothing here is read again: what is lost of them can be made from metrics.jsonl.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace trainer {

class MetricsCopies {
 public:
  // metrics.csv becomes what metrics.jsonl of the run is now; a new event file begins, which makes
  // TensorBoard forget values of steps after `resumed_step`; -1 for a run that starts at its
  // beginning. Throws kIo, kPermission.
  MetricsCopies(const std::filesystem::path& run_folder, int64_t resumed_step);
  ~MetricsCopies();
  MetricsCopies(const MetricsCopies&) = delete;
  MetricsCopies& operator=(const MetricsCopies&) = delete;

  // A line as in metrics.jsonl; only training and validation have a place in the copies.
  void append(const nlohmann::json& line);

 private:
  std::filesystem::path csv_path_, events_path_;
  int csv_ = -1, events_ = -1;
};

// The head of metrics.csv, and the row of a line: empty for what is not training or validation.
std::string metrics_csv_head();
std::string metrics_csv_row(const nlohmann::json& line);

}  // namespace trainer
