#include "trainer/step/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/failpoint.h"
#include "core/trace.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/ranks/weight_exchange.h"

namespace trainer {
namespace {

model::LlamaOptions llama_options(const Config& c, const Comm& comm) {
  using model::Recompute;
  const std::string& recompute = c.parallelism.recompute;
  return {
      .compute = c.model.dtype == "bfloat16" ? ag::DType::bf16 : ag::DType::f32,
      .trainable = c.model.trainable == "all" ? model::Trainable::all : model::Trainable::attention,
      .recompute = recompute == "block"       ? Recompute::block
                   : recompute == "attention" ? Recompute::attention
                                              : Recompute::none,
      .share = c.optimizer.zero_stage == 1 ? ag::Share{comm.rank(), comm.size()} : ag::Share{}};
}

AdamWOptions adamw_options(const OptimizerConfig& c) {
  return {.beta1 = c.optimizer_factory.adam_beta1,
          .beta2 = c.optimizer_factory.adam_beta2,
          .eps = c.optimizer_factory.adam_eps,
          .weight_decay = c.weight_decay};
}

}  // namespace

ValidationSets open_validation_sets(const Config& config, int64_t vocab_size) {
  ValidationSets sets;
  for (const auto& [name, path] : config.validation.sets)
    sets.emplace_back(name, data::EvalWindows(path, vocab_size, config.tokens.sequence_length,
                                              config.validation.windows_per_set));
  return sets;
}

data::NanosetStages open_training_data(const Config& config, int64_t vocab_size) {
  std::vector<data::DataStage> stages;
  for (const DataStageConfig& s : config.data_stages)
    stages.push_back(
        {.name = s.name,
         .start_training_step = s.start_training_step,
         .folders = {s.data.dataset.dataset_folder.begin(), s.data.dataset.dataset_folder.end()},
         .weights = s.data.dataset.dataset_weights,
         .seed = s.data.seed});
  return {stages,
          {.sequence_length = config.tokens.sequence_length,
           .micro_batch_size = config.tokens.micro_batch_size,
           .global_batch_size = config.tokens.global_batch_size,
           .train_steps = config.tokens.train_steps,
           .vocab_size = vocab_size}};
}

Trainer::Trainer(const Config& config, Comm& comm, const model::Model& model,
                 const data::NanosetStages& data)
    : config_(config),
      comm_(comm),
      data_(data),
      model_(model, llama_options(config, comm)),
      optimizer_(model_.params(), adamw_options(config.optimizer)),
      schedule_(make_schedule(config.optimizer.learning_rate_scheduler)),
      tree_(comm, config.parallelism.reduction_shards),
      reduction_(tree_, model_.params().trainable_numel()),
      buckets_(model_.params()),
      guard_(config.checkpoints) {
  const auto ids =
      static_cast<size_t>(config.tokens.micro_batch_size * config.tokens.sequence_length);
  inputs_.resize(ids);
  targets_.resize(ids);
  register_state();
}

// A micro-batch between forward and backward.
struct Trainer::MicroStep {
  ag::Tape tape;
  ag::Value loss;
  double scale = 0;

  double loss_sum() const { return loss.data.to_host<double>()[0]; }
  void backward() { tape.backward(loss, scale); }
};

std::unique_ptr<Trainer::MicroStep> Trainer::forward(int64_t step, int64_t micro_batch) {
  {
    const core::trace::Scope scope("data");
    data_.read_micro_batch(step, micro_batch, inputs_.data(), targets_.data());
  }
  const ag::Shape shape = {static_cast<int64_t>(inputs_.size())};
  const ag::Tensor inputs = ag::Tensor::from_host<int32_t>(shape, inputs_);
  const ag::Tensor targets = ag::Tensor::from_host<int32_t>(shape, targets_);
  auto micro = std::make_unique<MicroStep>();
  // Divided by the tokens of the whole global batch, so that no split of it changes the mean.
  micro->scale =
      1.0 / static_cast<double>(config_.tokens.global_batch_size * config_.tokens.sequence_length);
  micro->loss = model_.loss(micro->tape, inputs, targets, config_.tokens.micro_batch_size,
                            {.gradient_scale = micro->scale, .row_loss = nullptr});
  return micro;
}

std::unique_ptr<Trainer::MicroStep> Trainer::run_all_but_last(
    int64_t step, std::vector<std::vector<double>>& losses) {
  const int64_t micro_batches = config_.micro_batches(),
                shards = config_.parallelism.reduction_shards;
  std::unique_ptr<MicroStep> micro;
  for (int64_t shard = tree_.range().begin; shard < tree_.range().end; ++shard) {
    model_.params().select_gradient(reduction_.begin_shard(shard));
    losses.push_back({0.0});
    const int64_t end = (shard + 1) * micro_batches / shards;
    for (int64_t m = shard * micro_batches / shards; m < end; ++m) {
      micro = forward(step, m);
      losses.back()[0] += micro->loss_sum();
      if (m + 1 == end && shard + 1 == tree_.range().end) return micro;
      micro->backward();
      micro.reset();  // before the next one takes its memory
    }
    reduction_.end_shard(shard);
  }
  return micro;
}

std::vector<std::vector<double>> Trainer::run_own_shards(int64_t step) {
  std::vector<std::vector<double>> losses;
  std::unique_ptr<MicroStep> last;
  // A shard that one rank alone cannot read, or memory that it alone lacks, ends the run
  // everywhere.
  comm_.run_agreed([&] { last = run_all_but_last(step, losses); });
  // What fails from here on fails without agreement, and ends all ranks: in this backward they meet
  // to add up what is final.
  if (comm_.size() > 1) {
    buckets_.reset();
    last->tape.on_param_final = [this](const ag::Param& param) {
      const GradientRange range = buckets_.complete(param);
      if (range.end > range.begin) reduction_.start_sum(range);
    };
  }
  last->backward();
  reduction_.end_shard(tree_.range().end - 1);
  return losses;
}

StepReport Trainer::step() {
  const core::trace::Scope scope("step");
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  StepReport report{.step = step_ + 1,
                    .loss = kUnknown,
                    .gradient_norm = kUnknown,
                    .learning_rate = learning_rate(schedule_, step_)};
  if (guard_.is_forgotten(report.step))
    report.outcome = StepOutcome::forgotten;
  else
    compute_and_judge(report);
  if (report.outcome == StepOutcome::rollback) return report;
  step_ = report.step;
  tokens_ += config_.tokens.global_batch_size * config_.tokens.sequence_length;
  return report;
}

void Trainer::compute_and_judge(StepReport& report) {
  std::vector<std::vector<double>> losses = run_own_shards(report.step);
  const int64_t tokens = config_.tokens.global_batch_size * config_.tokens.sequence_length;
  report.loss = tree_sum(tree_, std::move(losses))[0] / static_cast<double>(tokens);
  const ag::Tensor& gradient = reduction_.finish();
  report.gradient_norm = gradient_norm(gradient);
  StepGuard::Judgement judgement =
      guard_.judge({.step = report.step,
                    .loss = report.loss,
                    .gradient_norm = report.gradient_norm,
                    .nonfinite = [&] { return describe_nonfinite(report, gradient); }},
                   comm_);
  report.outcome = judgement.outcome;
  report.note = std::move(judgement.note);
  if (report.outcome != StepOutcome::applied) return;
  core::failpoint("step.before_update");
  optimizer_.step(gradient, report.learning_rate,
                  clip_scale(report.gradient_norm, config_.optimizer.clip_grad));
  if (model_.params().share().count > 1) exchange_weights(comm_, model_.params());
}

std::string Trainer::describe_nonfinite(const StepReport& report,
                                        const ag::Tensor& gradient) const {
  const std::string name = first_nonfinite_gradient(model_.params(), gradient);
  // A norm may overflow although every element is finite; a loss may be NaN before any gradient is.
  if (!name.empty()) return "gradient of " + name;
  return std::isfinite(report.loss) ? "gradient norm" : "loss";
}

void Trainer::roll_back(const StepReport& bad, const std::filesystem::path& checkpoint) {
  if (checkpoint.empty())
    throw AgreedError(core::ExitCode::kNumerical,
                      core::Fault{.path = "step " + std::to_string(bad.step),
                                  .field = "rollback",
                                  .expected = "a checkpoint to go back to",
                                  .found = "none yet",
                                  .hint = "lower checkpoints.checkpoint_interval, or "
                                          "optimizer.learning_rate_scheduler.learning_rate"});
  comm_.run_agreed([&] { load_checkpoint(checkpoint, registry_); });
  refresh_after_load();
  guard_.forget(std::max(step_ + 1, bad.step - config_.checkpoints.rollback_skip_steps + 1),
                bad.step);
}

std::vector<SetResult> Trainer::validate(const ValidationSets& sets) {
  const core::trace::Scope scope("validation");
  std::vector<SetResult> results;
  for (const auto& [name, windows] : sets)
    results.push_back(evaluate(model_, windows, name, config_.tokens.micro_batch_size, &comm_));
  return results;
}

}  // namespace trainer
