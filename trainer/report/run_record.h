// What a run folder says of its run, read without trust: damage is noted, not fatal.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainer/report/conversion_record.h"

namespace trainer {

// One quantity over the run; NaN where a line had it as null.
struct Curve {
  std::vector<double> step, tokens, value;
};

struct RunRecord {
  std::filesystem::path path;
  std::string name;   // for people: the folder's, made longer where two are equal
  std::string state;  // of status.json: running, done, ...; empty if unknown
  std::string message;
  // "loss", "lr", ... of training lines; "val_loss" and "val_loss/SET" of validation lines.
  std::map<std::string, Curve> curves;
  nlohmann::json result;  // of result.json; null before the end
  std::optional<ConversionRecord> conversion;
  std::vector<std::string> notes;

  // Null if the run has no such curve.
  const Curve* find(const std::string& curve) const;
  double last(const std::string& curve) const;   // NaN without a value
  double least(const std::string& curve) const;  // NaN without a value
  double last_step() const;
  double tokens() const;  // seen in training; NaN if unknown
};

// `path`: a run folder, or a converted model's. Throws kMissingInput when it is neither, kBadData
// when there is nothing in it to show.
RunRecord read_run(const std::filesystem::path& path);

// Names as short as they can be and still differ.
void name_apart(std::vector<RunRecord>& runs);

}  // namespace trainer
