// The kernels that memory limits, each alone at the sizes of SmolLM-135M, beside a triad that
// touches as many bytes:
//   build/release/bench/ops_bench [--rows 2048] [--seconds 0.2] [--only rope]
// A round times a kernel and then its triad, for some milliseconds each; GB/s and its part of the
// triad are those of the fastest rounds, which others disturb least. Each operand counts once, and
// what is added to twice, so that a kernel which updates in place may exceed the triad.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <random>

#include "autograd/kernels/kernels.h"
#include "bench/step_case.h"
#include "model/rope.h"

namespace {

using ag::DType;
using ag::Tensor;
using ag::View;

constexpr int64_t kWidth = 576, kHidden = 1536, kWords = 49152, kHeads = 9, kHeadDim = 64;

struct Operation {
  std::string name;
  double touched, moved;  // bytes: of all operands, and read plus written
  std::function<void()> run;
  std::vector<double> seconds = {}, triad_seconds = {};
};

Tensor random_tensor(int64_t rows, int64_t cols, DType dtype) {
  static std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (float& v : values) v = uniform(random);
  Tensor t = Tensor::empty({rows, cols}, dtype);
  ag::kernels(t.device()).cast(t.view(), Tensor::from_host<float>({rows, cols}, values));
  return t;
}

Tensor random_ids(int64_t rows) {
  std::mt19937 random(2);
  std::uniform_int_distribution<int32_t> id(0, static_cast<int32_t>(kWords) - 1);
  std::vector<int32_t> values(static_cast<size_t>(rows));
  for (int32_t& v : values) v = id(random);
  return Tensor::from_host<int32_t>({rows}, values);
}

double megabytes(std::initializer_list<const Tensor*> tensors) {
  double bytes = 0;
  for (const Tensor* t : tensors) bytes += static_cast<double>(t->bytes());
  return bytes;
}

class Operations {
 public:
  explicit Operations(int64_t rows) : rows_(rows), k_(ag::kernels(ag::Device::cpu)) {
    add_norms();
    add_pointwise();
    add_ropes();
    add_loss();
    add_update();
  }
  std::vector<Operation>& all() { return list_; }

 private:
  Tensor wide(int64_t cols) const { return random_tensor(rows_, cols, DType::f32); }
  Tensor narrow(int64_t cols) const { return random_tensor(rows_, cols, DType::bf16); }
  void add(const std::string& name, double touched, double moved, std::function<void()> run) {
    list_.push_back({name, touched, moved, std::move(run)});
  }

  void add_norms() {
    const Tensor x = wide(kWidth), w = random_tensor(1, kWidth, DType::f32);
    Tensor y = narrow(kWidth), rstd = wide(1), dx = wide(kWidth),
           dw = random_tensor(rows_ / ag::kNormBlock, kWidth, DType::f32);
    const double forward = megabytes({&x, &y});
    add("rms_norm forward", forward, forward,
        [=, this]() mutable { k_.rms_norm_forward(y.view(), rstd.view(), x, w, 1e-5); });
    const Tensor dy = y;
    const double backward = megabytes({&x, &dy, &dx});
    add("rms_norm backward", backward, backward + megabytes({&dx}),
        [=, this]() mutable { k_.rms_norm_backward(dx.view(true), dw.view(), dy, x, w, rstd); });
  }

  void add_pointwise() {
    const Tensor gate = narrow(kHidden), up = narrow(kHidden), x = wide(kWidth);
    Tensor y = narrow(kHidden), dgate = narrow(kHidden), dup = narrow(kHidden), copy = wide(kWidth),
           rounded = narrow(kWidth);
    const double forward = megabytes({&gate, &up, &y});
    add("swiglu forward", forward, forward,
        [=, this]() mutable { k_.swiglu_forward(y.view(), gate, up); });
    const Tensor dy = y;
    const double backward = megabytes({&gate, &up, &dy, &dgate, &dup});
    add("swiglu backward", backward, backward,
        [=, this]() mutable { k_.swiglu_backward(dgate.view(), dup.view(), dy, gate, up); });
    const double same = megabytes({&x, &copy}), half = megabytes({&x, &rounded});
    add("cast f32 to f32", same, same, [=, this]() mutable { k_.cast(copy.view(), x); });
    add("cast f32 to bf16", half, half, [=, this]() mutable { k_.cast(rounded.view(), x); });
  }

  // Of the queries, gathered; of the rotary keys, which are in their places.
  void add_ropes() {
    std::vector<int32_t> kept;
    for (int32_t i = 0; i < 4; ++i) kept.push_back(i);
    const auto gather =
        std::make_shared<ag::RopePlan>(model::gather_plan({{kept}}, kHeads, kHeadDim));
    const auto compact = std::make_shared<ag::RopePlan>(model::compact_plan({kept, kept, kept}));
    std::vector<int32_t> every;
    for (int32_t i = 0; i < kHeadDim / 2; ++i) every.push_back(i);
    const auto dense =
        std::make_shared<ag::RopePlan>(model::gather_plan({{every}}, kHeads, kHeadDim));
    const Tensor cosine = random_tensor(rows_, kHeadDim / 2, DType::f32), sine = cosine;
    const auto add_rope = [&](const char* name, const std::shared_ptr<ag::RopePlan>& plan,
                              bool inverse) {
      const Tensor x = narrow(plan->columns);
      Tensor y = narrow(plan->columns);
      const double bytes = megabytes({&x, &y});
      add(name, bytes, bytes,
          [=, this]() mutable { k_.rope(y.view(), x, *plan, cosine, sine, rows_, 0, inverse); });
    };
    add_rope("rope queries", gather, false);
    add_rope("rope queries inverse", gather, true);
    add_rope("rope keys", compact, false);
    add_rope("rope dense", dense, false);
  }

  void add_loss();

  void add_update() {
    constexpr int64_t kParameters = int64_t{1} << 25;
    const Tensor gradient = random_tensor(1, kParameters, DType::f32);
    Tensor master = random_tensor(1, kParameters, DType::f32), m = gradient,
           v = Tensor::zeros({1, kParameters}, DType::f32),
           working = Tensor::empty({1, kParameters}, DType::bf16);
    m = Tensor::zeros({1, kParameters}, DType::f32);
    const double touched = megabytes({&gradient, &master, &m, &v, &working});
    const ag::AdamWStep step{1e-4, 0.9, 0.95, 1e-8, 0.1, 1, 10};
    add("adamw", touched, touched + megabytes({&master, &m, &v}), [=, this]() mutable {
      k_.adamw(master.view(), working.view(), m.view(), v.view(), gradient, step);
    });
    const double bytes = megabytes({&gradient});
    add("gradient norm", bytes, bytes, [=, this] { k_.sum_squares(gradient); });
    Tensor cleared = gradient;
    add("zero gradient", bytes, bytes, [=, this]() mutable { k_.zero(cleared.view()); });
    const Tensor ids = random_ids(rows_), table = random_tensor(kWords, kWidth, DType::bf16);
    Tensor y = wide(kWidth), dtable = Tensor::zeros({kWords, kWidth}, DType::f32);
    const double looked_up = megabytes({&y});
    add("embedding forward", 1.5 * looked_up, 1.5 * looked_up,
        [=, this]() mutable { k_.embedding_forward(y.view(), table, ids); });
    add("embedding backward", 2 * looked_up, 3 * looked_up,
        [=, this]() mutable { k_.embedding_backward(dtable.view(true), y, ids); });
  }

  int64_t rows_;
  const ag::Kernels& k_;
  std::vector<Operation> list_;
};

void Operations::add_loss() {
  constexpr int64_t kRows = 256;
  const Tensor logits = random_tensor(kRows, kWords, DType::f32), targets = random_ids(kRows);
  Tensor loss = Tensor::empty({kRows, 1}, DType::f64),
         dlogits = Tensor::empty({kRows, kWords}, DType::bf16);
  const double bytes = megabytes({&logits, &dlogits});
  add("cross_entropy", bytes, bytes, [=, this]() mutable {
    k_.cross_entropy(loss.view(), dlogits.view(), logits, targets, 1e-3);
  });
}

double seconds_of(const std::function<void()>& work, int repetitions) {
  const auto start = bench::Clock::now();
  for (int i = 0; i < repetitions; ++i) work();
  return bench::seconds_since(start) / repetitions;
}

void triad(std::vector<float>& memory, double touched) {
  const auto n = static_cast<int64_t>(touched / 12);
  float *a = memory.data(), *b = a + n, *c = b + n;
#pragma omp parallel for simd schedule(static)
  for (int64_t j = 0; j < n; ++j) a[j] = b[j] + 3.0F * c[j];
}

void measure(std::vector<Operation>& operations, double seconds) {
  double most = 0;
  for (const Operation& op : operations) most = std::max(most, op.touched);
  std::vector<float> memory(static_cast<size_t>(most / 4), 1.0F);
  constexpr int kRounds = 40;
  for (Operation& op : operations) {
    op.run();
    const double once = seconds_of(op.run, 1);
    const int repetitions = std::max(1, static_cast<int>(seconds / kRounds / once));
    for (int round = 0; round < kRounds; ++round) {
      op.run();
      op.seconds.push_back(seconds_of(op.run, repetitions));
      triad(memory, op.touched);
      op.triad_seconds.push_back(seconds_of([&] { triad(memory, op.touched); }, repetitions));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Kernels that memory limits, beside a triad of the same size"};
  int64_t rows = 2048;
  double seconds = 0.2;
  int threads = 2;
  std::string only;
  app.add_option("--rows", rows, "tokens");
  app.add_option("--seconds", seconds, "per kernel");
  app.add_option("--threads", threads, "threads");
  app.add_option("--only", only, "kernels whose name contains this");
  CLI11_PARSE(app, argc, argv);
  ag::set_threads(threads);
  Operations operations(rows);
  std::vector<Operation>& list = operations.all();
  std::erase_if(list, [&](const Operation& op) { return op.name.find(only) == std::string::npos; });
  measure(list, seconds);
  fmt::print("{}\n{:<22} {:>7} {:>9} {:>9} {:>8} {:>8} {:>6}\n", ag::describe_backend(), "kernel",
             "MB", "ms", "fastest", "GB/s", "triad", "");
  for (const Operation& op : list) {
    const double fastest = *std::min_element(op.seconds.begin(), op.seconds.end());
    const double rate = op.moved / fastest * 1e-9,
                 limit = op.touched * 1e-9 /
                         *std::min_element(op.triad_seconds.begin(), op.triad_seconds.end());
    fmt::print("{:<22} {:>7.1f} {:>9.3f} {:>9.3f} {:>8.1f} {:>8.1f} {:>5.0f}%\n", op.name,
               op.touched * 1e-6, 1e3 * bench::median(op.seconds), 1e3 * fastest, rate, limit,
               100 * rate / limit);
  }
  return 0;
}
