// Long arrays as the messages of one exchange, each short enough for MPI.
#pragma once

#include <span>
#include <vector>

#include "autograd/core/tensor.h"
#include "trainer/ranks/comm.h"

namespace trainer {

// The elements of a tensor where they are. MPI reads device memory through the same pointer where
// it is device-aware.
std::span<const std::byte> bytes_of(const ag::Tensor& tensor);
std::span<std::byte> bytes_of(ag::Tensor& tensor);

// Both sides cut alike; an empty array is no message.
void append_outgoing(std::vector<Comm::Outgoing>& messages, std::span<const std::byte> bytes,
                     int to);
void append_incoming(std::vector<Comm::Incoming>& messages, std::span<std::byte> bytes, int from);

}  // namespace trainer
