// The C leading singular vectors of X [n, d] from the smaller of its Gram matrices, in float64.
//   n >= d: X^T X = Z diag(sigma^2) Z^T,  down = Z_C^T,                       up = X Z_C
//   n <  d: X X^T = U diag(sigma^2) U^T,  down = diag(1 / sigma_C) U_C^T X,   up = U_C
//   diag(sigma_C)
// One symmetric tridiagonalisation of min(n, d) and the C wanted vectors: a tenth of the work of a
// full SVD where X is large, and no matrix of X's size beside it.
//
// Exact enough. Eigenvectors come out orthonormal to rounding whatever the spectrum is, and up down
// is X times (or U_C U_C^T times X) their projection, multiplied out afresh; so only the choice of
// the subspace can be off. The computed vectors are those of a matrix whose eigenvalues are all off
// by at most
//   eta = k eps lambda_1,   k = min(n, d), eps = 2^-53, lambda = sigma^2
// (backward stability of the product and of the eigensolver, whose factors are in practice far
// below k). Hence sigma_C is off by eta / (2 lambda_C) of itself, the square of what is lost by at
// most C eta in all, and with the two conditions
//   lambda_C       >= 2^26 eta     every kept sigma to 2^-27, an eighth of a float32 rounding
//   lost^2         >= 2^14 C eta   what is lost to 2^-15, the five digits that are reported
// the float32 factors are as good as those of an SVD. Else - nothing to cut off, a spectrum that
// falls by more than 2^7 (k = 4096) within what is kept, a rest of almost nothing - it is dgesdd.
#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "autograd/core/check.h"
#include "core/error.h"
#include "model/svd.h"

namespace model {
namespace {

using Matrix = std::vector<double>;

void require_converged(lapack_int info) {
  if (info == 0) return;
  core::fail(core::ExitCode::kNumerical, {.field = "symmetric eigenvalues",
                                          .expected = "convergence",
                                          .found = "LAPACK info " + std::to_string(info)});
}

size_t size(int64_t n) { return static_cast<size_t>(n); }

double sum_of_squares(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

// Column-major and lower here is row-major and upper: LAPACK sees the symmetric matrix itself.
class GramEigen {
 public:
  GramEigen(const Matrix& x, int64_t rows, int64_t columns)
      : k_(static_cast<lapack_int>(std::min(rows, columns))),
        gram_(size(int64_t{k_} * k_)),
        diagonal_(size(k_)),
        off_diagonal_(size(k_)),
        reflectors_(size(k_)) {
    const auto depth = static_cast<int>(std::max(rows, columns));
    const auto stride = static_cast<int>(columns);
    cblas_dsyrk(CblasColMajor, CblasLower, rows >= columns ? CblasNoTrans : CblasTrans, k_, depth,
                1.0, x.data(), stride, 0.0, gram_.data(), k_);
    require_converged(LAPACKE_dsytrd(LAPACK_COL_MAJOR, 'L', k_, gram_.data(), k_, diagonal_.data(),
                                     off_diagonal_.data(), reflectors_.data()));
    lambda_ = diagonal_;
    Matrix off = off_diagonal_;
    require_converged(LAPACKE_dsterf(k_, lambda_.data(), off.data()));
    std::ranges::reverse(lambda_);
  }

  const Matrix& lambda() const { return lambda_; }  // [k], descending

  bool is_exact_enough(int64_t count) const {
    const double eps = std::numeric_limits<double>::epsilon() / 2;
    const double eta = k_ * eps * lambda_.front();
    double lost = 0;
    for (size_t i = size(count); i < lambda_.size(); ++i) lost += lambda_[i];
    return eta > 0 && lambda_[size(count - 1)] >= std::ldexp(eta, 26) &&
           lost >= std::ldexp(eta, 14) * static_cast<double>(count);
  }

  // [count, k]: the vectors of the largest ones, as rows.
  Matrix vectors(int64_t count) const {
    const auto wanted = static_cast<lapack_int>(count);
    Matrix d = diagonal_, e = off_diagonal_, w(size(k_)), z(size(count * k_));
    std::vector<lapack_int> support(2 * size(count));
    lapack_int found = 0;
    lapack_logical try_relative = 1;
    require_converged(LAPACKE_dstemr(LAPACK_COL_MAJOR, 'V', 'I', k_, d.data(), e.data(), 0, 0,
                                     k_ - wanted + 1, k_, &found, w.data(), z.data(), k_, wanted,
                                     support.data(), &try_relative));
    require_converged(LAPACKE_dormtr(LAPACK_COL_MAJOR, 'L', 'L', 'N', k_, wanted, gram_.data(), k_,
                                     reflectors_.data(), z.data(), k_));
    for (int64_t i = 0; i < count / 2; ++i)  // ascending as LAPACK gives them
      std::swap_ranges(z.begin() + i * k_, z.begin() + (i + 1) * k_,
                       z.begin() + (count - 1 - i) * k_);
    return z;
  }

 private:
  lapack_int k_;
  Matrix gram_, diagonal_, off_diagonal_, reflectors_, lambda_;
};

// a [m, k] b, row-major; b is [k, n], or [n, k] when it is to be transposed.
Matrix product(const Matrix& a, const Matrix& b, CBLAS_TRANSPOSE b_is, int64_t m, int64_t k,
               int64_t n) {
  Matrix out(size(m * n));
  const auto b_stride = static_cast<int>(b_is == CblasNoTrans ? n : k);
  cblas_dgemm(CblasRowMajor, CblasNoTrans, b_is, static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(k), 1.0, a.data(), static_cast<int>(k), b.data(), b_stride, 0.0,
              out.data(), static_cast<int>(n));
  return out;
}

}  // namespace

LeadingFactors leading_factors_of_svd(const Matrix& x, int64_t rows, int64_t columns,
                                      int64_t count) {
  Svd s = svd(x, rows, columns);
  LeadingFactors f;
  f.down.assign(s.zt.begin(), s.zt.begin() + count * columns);
  f.up.reserve(size(rows * count));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < count; ++j) f.up.push_back(s.u[size(i * s.k + j)] * s.sigma[size(j)]);
  f.norm_squared = sum_of_squares(s.sigma.data(), s.k);
  f.lost_squared = sum_of_squares(s.sigma.data() + count, s.k - count);
  f.sigma = std::move(s.sigma);
  return f;
}

LeadingFactors leading_factors(const Matrix& x, int64_t rows, int64_t columns, int64_t count) {
  const int64_t k = std::min(rows, columns);
  CHECK_ARGUMENT("convert", count >= 1 && count <= k, "a latent of 1 to " + std::to_string(k),
                 std::to_string(count));
  require_finite(x);
  if (count == k) return leading_factors_of_svd(x, rows, columns, count);
  LeadingFactors f;
  Matrix vectors;
  {
    const GramEigen eigen(x, rows, columns);
    if (eigen.is_exact_enough(count)) {
      for (const double lambda : eigen.lambda())
        f.sigma.push_back(std::sqrt(std::max(lambda, 0.0)));
      vectors = eigen.vectors(count);
    }
  }
  if (vectors.empty()) return leading_factors_of_svd(x, rows, columns, count);
  if (rows >= columns) {
    f.up = product(x, vectors, CblasTrans, rows, columns, count);
    f.down = std::move(vectors);
  } else {
    f.down = product(vectors, x, CblasNoTrans, count, rows, columns);  // diag(sigma) Z_C^T
    f.up.resize(size(rows * count));
    for (int64_t j = 0; j < count; ++j) {
      double* row = f.down.data() + j * columns;
      const double sigma = std::sqrt(sum_of_squares(row, columns));
      for (int64_t i = 0; i < columns; ++i) row[i] /= sigma;
      for (int64_t i = 0; i < rows; ++i)
        f.up[size(i * count + j)] = vectors[size(j * rows + i)] * sigma;
    }
  }
  fix_signs(f.up, f.down, count);
  f.norm_squared = sum_of_squares(x.data(), rows * columns);
  f.lost_squared = sum_of_squares(f.sigma.data() + count, k - count);
  f.from_gram = true;
  return f;
}

}  // namespace model
