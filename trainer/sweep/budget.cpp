#include "trainer/sweep/budget.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "trainer/config/scalars.h"
#include "trainer/run/prepare.h"

namespace trainer {
namespace {

[[noreturn]] void refuse(const SweepValue& ratio, const std::string& expected,
                         const std::string& found, const std::string& hint) {
  core::fail(core::ExitCode::kBadConfig, {.field = "sweep.budget.cache_ratio: " + ratio.text,
                                          .expected = expected,
                                          .found = found,
                                          .hint = hint});
}

}  // namespace

void fit_to_budget(Config& config, const model::ModelSpec& source, const SweepValue& ratio,
                   bool derives_pairs) {
  if (!config.mla || config.mla->latent.method == "none" || source.is_converted())
    refuse(ratio, "a conversion with a latent",
           !config.mla             ? "no section mla"
           : source.is_converted() ? "a source that is converted already"
                                   : "mla.latent.method none",
           "a budget chooses latents: leave it out, or exclude the trial");
  MlaConfig& mla = *config.mla;
  const double exact =
      parse_decimal(ratio.text).value_or(0) * 2 * static_cast<double>(source.config.head_dim);
  const auto numbers = static_cast<int64_t>(std::llround(exact));
  // Tolerance: a ratio is written with a few digits, and a number that was meant is a whole one.
  if (std::abs(exact - static_cast<double>(numbers)) > 1e-3)
    refuse(ratio, fmt::format("a multiple of 1/{}", 2 * source.config.head_dim),
           fmt::format("{:g} numbers per kv head and token", exact), "");
  const int64_t latents = mla.latent.method == "split" ? 2 : 1;
  const int64_t pairs = conversion_options(mla, source.config.pairs()).rope.pairs_per_head;
  const int64_t given = derives_pairs ? latents * mla.latent.latent_dims_per_kv_head : 2 * pairs;
  const int64_t each = derives_pairs ? 2 : latents;
  const int64_t left = numbers - given;
  if (left < (derives_pairs ? 0 : each) || left % each != 0)
    refuse(ratio,
           fmt::format("{} numbers per kv head and token = 2 r + {}c", numbers,
                       latents == 2 ? "2 " : ""),
           derives_pairs ? fmt::format("c = {}, which leaves {} for 2 r",
                                       mla.latent.latent_dims_per_kv_head, left)
                         : fmt::format("r = {} ({}), which leaves {} for {}", pairs,
                                       mla.rope.strategy, left, latents == 2 ? "2 c" : "c"),
           "choose another ratio, or exclude the trial");
  if (derives_pairs)
    mla.rope.rope_pairs_per_head = left / 2;
  else
    mla.latent.latent_dims_per_kv_head = left / each;
}

}  // namespace trainer
