#include "model/svd.h"

#include <lapacke.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace model {

void fix_signs(std::vector<double>& up, std::vector<double>& down, int64_t count) {
  const int64_t columns = static_cast<int64_t>(down.size()) / count;
  for (int64_t i = 0; i < count; ++i) {
    double* row = down.data() + i * columns;
    const double* largest = std::max_element(
        row, row + columns, [](double a, double b) { return std::abs(a) < std::abs(b); });
    if (*largest >= 0) continue;
    for (int64_t j = 0; j < columns; ++j) row[j] = -row[j];
    for (size_t j = static_cast<size_t>(i); j < up.size(); j += static_cast<size_t>(count))
      up[j] = -up[j];
  }
}

void require_finite(const std::vector<double>& x) {
  for (const double value : x)
    if (!std::isfinite(value))
      core::fail(core::ExitCode::kNumerical,
                 {.field = "svd", .expected = "finite weights", .found = "NaN or infinity"});
}

Svd svd(const std::vector<double>& x, int64_t rows, int64_t columns) {
  require_finite(x);
  Svd s{rows, columns, std::min(rows, columns), {}, {}, {}};
  s.u.resize(static_cast<size_t>(rows * s.k));
  s.sigma.resize(static_cast<size_t>(s.k));
  s.zt.resize(static_cast<size_t>(s.k * columns));
  std::vector<double> a = x;  // LAPACK destroys its input
  const auto info = LAPACKE_dgesdd(
      LAPACK_ROW_MAJOR, 'S', static_cast<lapack_int>(rows), static_cast<lapack_int>(columns),
      a.data(), static_cast<lapack_int>(columns), s.sigma.data(), s.u.data(),
      static_cast<lapack_int>(s.k), s.zt.data(), static_cast<lapack_int>(columns));
  if (info != 0)
    core::fail(core::ExitCode::kNumerical, {.field = "svd",
                                            .expected = "convergence",
                                            .found = "LAPACK info " + std::to_string(info)});
  fix_signs(s.u, s.zt, s.k);
  return s;
}

}  // namespace model
