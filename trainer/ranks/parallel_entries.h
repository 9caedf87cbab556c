// Work on every tensor of the state, on all threads.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "trainer/files/h5.h"

namespace trainer {

// Calls work(i) for every index of `sources`, each once, in any thread. The largest start first:
// one of them bounds the time.
void for_each_entry(const std::vector<H5Source>& sources, const std::function<void(size_t)>& work);

}  // namespace trainer
