// Shares of a flat array, and parameter stores that deal the optimizer's work.
#include "autograd/core/share.h"

#include "autograd/kernels/kernels.h"
#include "autograd/params.h"
#include "tests/support/gradcheck.h"
#include "tests/support/refusal.h"

namespace ag::test {
namespace {

using test_support::doubles;
using test_support::expect_refusal;
using test_support::kInternal;
using test_support::random_tensor;

TEST(Share, SharesMakeTheWholeInTiles) {
  for (const int64_t numel : {int64_t{0}, int64_t{1}, kShareTile, kShareTile + 1, 7 * kShareTile,
                              13 * kShareTile - 5, int64_t{1} << 61})
    for (const int64_t count : {1, 2, 3, 7, 64}) {
      int64_t end = 0, least = numel, most = 0;
      for (int64_t index = 0; index < count; ++index) {
        const ElementRange range = range_of(numel, {index, count});
        EXPECT_EQ(range.begin, end);
        EXPECT_GE(range.size(), 0);
        EXPECT_TRUE(range.begin % kShareTile == 0 || range.begin == numel);
        end = range.end;
        least = std::min(least, range.size());
        most = std::max(most, range.size());
      }
      EXPECT_EQ(end, numel);
      EXPECT_LE(most - least, 2 * kShareTile) << numel << " in " << count;
    }
}

TEST(Share, RefusesAnOwnerThatIsNone) {
  expect_refusal(kInternal, "an owner below 2, got 2", [] { range_of(10, {2, 2}); });
  expect_refusal(kInternal, "an owner below 2, got -1", [] { range_of(10, {-1, 2}); });
}

TEST(Share, IntersectionsStayInside) {
  EXPECT_EQ(intersection({2, 8}, {4, 10}), (ElementRange{4, 8}));
  EXPECT_EQ(intersection({5, 6}, {4, 10}), (ElementRange{5, 6}));
  EXPECT_EQ(intersection({0, 3}, {4, 10}), (ElementRange{4, 4}));
  EXPECT_EQ(intersection({12, 20}, {4, 10}), (ElementRange{10, 10}));
}

// Vectors at the ends of shares and across them; the trainable part alone is five tiles.
const std::vector<ParamStore::Declaration> kSharedParameters{
    {"norm", {100}, true},       {"matrix", {70, 90}, true}, {"bias", {5000}, true},
    {"last", {33, 129}, true},   {"end", {3}, true},         {"frozen", {90, 100}, false},
    {"frozen_norm", {65}, false}};

void load(ParamStore& store) {
  uint64_t seed = 0;
  for (Param& p : store.all()) store.load(p, random_tensor(p.shape, ++seed, store.wide_dtype()));
}

// One update of what the store owns, with a gradient that is the same for all stores.
void update(ParamStore& store) {
  const ElementRange own = store.own_range();
  Tensor master = store.own_master(), working = store.own_working();
  Tensor m = Tensor::zeros({own.size()}, store.wide_dtype()),
         v = Tensor::zeros({own.size()}, store.wide_dtype());
  const Tensor gradient = random_tensor({store.trainable_numel()}, 99, store.wide_dtype());
  kernels(Device::cpu)
      .adamw(master.view(), working.defined() ? working.view() : View{}, m.view(), v.view(),
             gradient.slice(own.begin, {own.size()}),
             {.learning_rate = 0.01,
              .beta1 = 0.9,
              .beta2 = 0.95,
              .eps = 1e-8,
              .weight_decay = 0.1,
              .gradient_scale = 0.5,
              .step = 1});
  store.refresh_own_vectors();
}

// What all others updated, from the stores of those shares.
void take_parts(ParamStore& store, std::deque<ParamStore>& stores) {
  for (int64_t owner = 0; owner < store.share().count; ++owner) {
    if (owner == store.share().index) continue;
    std::vector<Tensor> from = stores[static_cast<size_t>(owner)].working_parts(owner);
    std::vector<Tensor> to = store.working_parts(owner);
    ASSERT_EQ(from.size(), to.size());
    for (size_t i = 0; i < to.size(); ++i)
      if (to[i].numel() > 0) to[i].copy_from(std::as_const(from[i]).view().data);
  }
}

void expect_same_as_one(DType compute, int64_t count) {
  SCOPED_TRACE(std::string(name_of(compute)) + " in " + std::to_string(count));
  ParamStore whole(kSharedParameters, compute);
  load(whole);
  update(whole);
  std::deque<ParamStore> stores;
  for (int64_t index = 0; index < count; ++index) {
    load(stores.emplace_back(kSharedParameters, compute, Share{index, count}));
    update(stores.back());
  }
  for (ParamStore& store : stores) take_parts(store, stores);
  for (const Param& expected : whole.all()) {
    std::vector<double> masters;
    for (ParamStore& store : stores) {
      const Param& p = store.at(expected.name);
      EXPECT_EQ(p.working.dtype(), expected.working.dtype());
      EXPECT_EQ(doubles(p.working), doubles(expected.working)) << p.name;
      if (!store.masters_are_dealt()) continue;
      EXPECT_FALSE(p.master.defined());
      EXPECT_EQ(p.kept.numel(), store.part_of(p, store.share().index).size()) << p.name;
      const std::vector<double> kept = doubles(p.kept);
      masters.insert(masters.end(), kept.begin(), kept.end());
    }
    if (stores.front().masters_are_dealt()) {
      EXPECT_EQ(masters, doubles(expected.master)) << expected.name;
    }
  }
}

TEST(Share, StoresThatDealTheWorkEndLikeOne) {
  for (const DType compute : {DType::f32, DType::bf16})
    for (const int64_t count : {2, 3, 4, 9}) expect_same_as_one(compute, count);
}

TEST(Share, DealtMastersAreNeitherWholeNorRefreshed) {
  ParamStore store(kSharedParameters, DType::bf16, {0, 2});
  EXPECT_TRUE(store.masters_are_dealt());
  expect_refusal(kInternal, "all masters, got a share of them", [&] { store.refresh_working(); });
}

}  // namespace
}  // namespace ag::test
