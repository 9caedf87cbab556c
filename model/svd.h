// Singular value decompositions in float64. The thin one is LAPACK's divide and conquer (dgesdd):
// half to a third of the processor time of Eigen's BDCSVD, at a smaller error
// (bench/svd_bench.cpp). Leading factors come from a Gram matrix (svd_gram.cpp).
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

// Throws kNumerical for a NaN or infinity.
void require_finite(const std::vector<double>& x);

// Singular vectors are defined up to sign; LAPACK's choice depends on its kernels. Ours does not:
// in each row of `down` [count, columns] the largest entry is positive. A row and its column of
// `up` [rows, count] turn together. Requires: count >= 1.
void fix_signs(std::vector<double>& up, std::vector<double>& down, int64_t count);

// Throws kNumerical when X is not finite or LAPACK does not converge.
Svd svd(const std::vector<double>& x, int64_t rows, int64_t columns);

// up [rows, count] down [count, columns]: of all products of this size the nearest to X.
struct LeadingFactors {
  std::vector<double> up;     // columns of U diag(sigma)
  std::vector<double> down;   // rows of Z^T, their signs as in Svd
  std::vector<double> sigma;  // all k of X, descending
  double lost_squared = 0;    // of the Frobenius norm: sum of the squares of sigma beyond `count`
  double norm_squared = 0;
  bool from_gram = false;  // how they were computed; svd_gram.cpp says when which
};

// From the eigenvectors of the Gram matrix where that is exact enough, else from svd(). Requires:
// 1 <= count <= min(rows, columns). Throws as svd() does.
LeadingFactors leading_factors(const std::vector<double>& x, int64_t rows, int64_t columns,
                               int64_t count);
// From svd(), always.
LeadingFactors leading_factors_of_svd(const std::vector<double>& x, int64_t rows, int64_t columns,
                                      int64_t count);

}  // namespace model
