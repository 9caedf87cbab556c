// What a joint conversion does to its matrices [K_nope; V], in float64: leading factors from a Gram
// matrix, and LAPACK's dgesdd, through model/svd.h; and Eigen's BDCSVD, a thin SVD like dgesdd's.
//   build/release/bench/svd_bench                          both SmolLM shapes, medians of 3
//   build/release/bench/svd_bench --shape llama-2-7b       without Eigen, which takes minutes
//   build/release/bench/svd_bench --shape smollm-135m --repetitions 9
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <Eigen/SVD>
#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <random>
#include <vector>

#include "autograd/kernels/kernels.h"
#include "core/seconds.h"
#include "model/svd.h"

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Case {
  const char* name;
  int64_t rows, columns;  // G (D - 2 r) + G D, d
  int64_t latent;         // c G, c = 16
  bool is_small;
};
constexpr Case kCases[] = {{"smollm-135m", 336, 576, 48, true},
                           {"smollm-1.7b", 3840, 2048, 512, true},
                           {"llama-2-7b", 7680, 4096, 512, false}};

std::vector<double> random_values(int64_t count) {
  std::mt19937_64 engine(1);
  std::normal_distribution<double> normal(0, 0.02);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& v : values) v = normal(engine);
  return values;
}

struct Times {
  double wall, cpu;  // seconds; cpu is the sum over threads
};

Times medians(int repetitions, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> wall, cpu;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = Clock::now();
    const std::clock_t cpu_start = std::clock();
    work();
    cpu.push_back(static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC);
    wall.push_back(core::seconds_since(start));
  }
  std::sort(wall.begin(), wall.end());
  std::sort(cpu.begin(), cpu.end());
  return {wall[wall.size() / 2], cpu[cpu.size() / 2]};
}

// |X - U diag(sigma) Z^T|_F / |X|_F
double error(const Matrix& x, const Matrix& u, const Eigen::VectorXd& sigma, const Matrix& zt) {
  return (x - u * sigma.asDiagonal() * zt).norm() / x.norm();
}

void run(const Case& c, int repetitions) {
  const std::vector<double> values = random_values(c.rows * c.columns);
  const Matrix x = Eigen::Map<const Matrix>(values.data(), c.rows, c.columns);
  const auto report = [&](const char* name, const Times& times, double lost) {
    fmt::print("{:<12} {:>5} x {:<5} {:<14} {:>9.3f} s {:>9.3f} s of processors  error {:.1e}\n",
               c.name, c.rows, c.columns, name, times.wall, times.cpu, lost);
    std::fflush(stdout);
  };
  model::Svd lapack;
  const Times lapack_times =
      medians(repetitions, [&] { lapack = model::svd(values, c.rows, c.columns); });
  report("LAPACK dgesdd", lapack_times,
         error(x, Eigen::Map<Matrix>(lapack.u.data(), c.rows, lapack.k),
               Eigen::Map<Eigen::VectorXd>(lapack.sigma.data(), lapack.k),
               Eigen::Map<Matrix>(lapack.zt.data(), lapack.k, c.columns)));
  model::LeadingFactors gram;
  const Times gram_times = medians(
      repetitions, [&] { gram = model::leading_factors(values, c.rows, c.columns, c.latent); });
  // The same of dgesdd instead of X: how far the two truncations are apart.
  const model::LeadingFactors full =
      model::leading_factors_of_svd(values, c.rows, c.columns, c.latent);
  const auto product = [&](const model::LeadingFactors& f) -> Matrix {
    return Eigen::Map<const Matrix>(f.up.data(), c.rows, c.latent) *
           Eigen::Map<const Matrix>(f.down.data(), c.latent, c.columns);
  };
  report(gram.from_gram ? "Gram" : "Gram: refused", gram_times,
         (product(gram) - product(full)).norm() / x.norm());
  if (!c.is_small) return;
  Eigen::BDCSVD<Matrix> eigen;
  const Times eigen_times =
      medians(repetitions, [&] { eigen.compute(x, Eigen::ComputeThinU | Eigen::ComputeThinV); });
  report("Eigen BDCSVD", eigen_times,
         error(x, eigen.matrixU(), eigen.singularValues(), eigen.matrixV().transpose()));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Singular value decompositions of conversion: LAPACK against Eigen.");
  std::string shape;
  int repetitions = 3, threads = ag::threads();
  app.add_option("--shape", shape, "smollm-135m | smollm-1.7b | llama-2-7b (default: SmolLM)")
      ->check(CLI::IsMember({"smollm-135m", "smollm-1.7b", "llama-2-7b"}));
  app.add_option("--repetitions", repetitions, "medians over this many")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--threads", threads, "of both libraries")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  CLI11_PARSE(app, argc, argv);
  ag::set_threads(threads);
  Eigen::setNbThreads(threads);
  for (const Case& c : kCases)
    if (shape.empty() ? c.is_small : shape == c.name) run(c, repetitions);
}
