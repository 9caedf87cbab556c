// Thin singular value decomposition in float64, by LAPACK's divide and conquer (dgesdd): half to a
// third of the processor time of Eigen's BDCSVD, at a smaller error (bench/svd_bench.cpp).
#pragma once

#include <cstdint>
#include <vector>

namespace model {

// X [rows, columns] row-major = U diag(sigma) Z^T with k = min(rows, columns).
struct Svd {
  int64_t rows = 0, columns = 0, k = 0;
  std::vector<double> u;      // [rows, k]
  std::vector<double> sigma;  // [k], descending
  std::vector<double> zt;     // [k, columns]; the largest entry of each row is positive
};

// Throws kNumerical when X is not finite or LAPACK does not converge.
Svd svd(const std::vector<double>& x, int64_t rows, int64_t columns);

}  // namespace model
