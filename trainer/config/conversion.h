// The section `mla` of the configuration: how an unconverted model is converted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/config/fields.h"

namespace trainer {

struct RopeConfig {
  std::string strategy = "2-norm";
  int64_t rope_pairs_per_head = 0;
  std::string score = "product";
  int64_t uniform_start = 0;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.strategy,
      Key{.name = "strategy",
          .help = "rotary pairs to keep: full | none | high | low | uniform | high-low | 2-norm",
          .choices = {"full", "none", "high", "low", "uniform", "high-low", "2-norm"}});
    f(s.rope_pairs_per_head,
      Key{.name = "rope_pairs_per_head",
          .help = "kept rotary pairs r per kv head (2r dimensions); unused by full and none",
          .min = 0,
          .max = 4096});
    f(s.score, Key{.name = "score",
                   .help = "2-norm score of a pair: product | sum of the query and key norms",
                   .choices = {"product", "sum"}});
    f(s.uniform_start, Key{.name = "uniform_start",
                           .help = "first kept pair of the uniform strategy",
                           .min = 0,
                           .max = 4096});
  }
  bool operator==(const RopeConfig&) const = default;
};

struct LatentConfig {
  std::string method = "joint";
  int64_t latent_dims_per_kv_head = 0;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.method,
      Key{.name = "method",
          .help =
              "joint: one latent for keys and values | split: one each | none: partial RoPE only",
          .choices = {"joint", "split", "none"}});
    f(s.latent_dims_per_kv_head,
      Key{.name = "latent_dims_per_kv_head",
          .help = "width c of a latent per kv head (cached numbers per token)",
          .min = 0,
          .max = 65536});
  }
  bool operator==(const LatentConfig&) const = default;
};

struct CalibrationConfig {
  int64_t windows = 1024;
  std::vector<std::string> data;  // empty: the training mixture

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.windows, Key{.name = "windows",
                     .help = "sequences for the 2-norm statistics and the parity report",
                     .min = 1,
                     .max = 1e7});
    f(s.data, Key{.name = "data",
                  .help = "shard or list of shards; null: the training mixture",
                  .path = PathBase::kConfigFile});
  }
  bool operator==(const CalibrationConfig&) const = default;
};

struct MlaConfig {
  RopeConfig rope;
  LatentConfig latent;
  CalibrationConfig calibration;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.rope, Key{.name = "rope", .help = "partial rotary embedding"});
    f(s.latent, Key{.name = "latent", .help = "low-rank key-value latent"});
    f(s.calibration, Key{.name = "calibration", .help = "data the conversion looks at"});
  }
  bool operator==(const MlaConfig&) const = default;
};

}  // namespace trainer
