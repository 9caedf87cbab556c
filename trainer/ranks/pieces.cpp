#include "trainer/ranks/pieces.h"

#include <algorithm>

namespace trainer {
namespace {

// f(piece) for pieces of `bytes` that a message can hold.
template <class Byte, class F>
void for_each_piece(std::span<Byte> bytes, F&& f) {
  constexpr size_t kPiece = size_t{1} << 30;
  for (size_t begin = 0; begin < bytes.size(); begin += kPiece)
    f(bytes.subspan(begin, std::min(kPiece, bytes.size() - begin)));
}

}  // namespace

std::span<const std::byte> bytes_of(const ag::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.view().data), static_cast<size_t>(tensor.bytes())};
}

std::span<std::byte> bytes_of(ag::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.view().data), static_cast<size_t>(tensor.bytes())};
}

void append_outgoing(std::vector<Comm::Outgoing>& messages, std::span<const std::byte> bytes,
                     int to) {
  for_each_piece(bytes, [&](std::span<const std::byte> piece) { messages.push_back({piece, to}); });
}

void append_incoming(std::vector<Comm::Incoming>& messages, std::span<std::byte> bytes, int from) {
  for_each_piece(bytes, [&](std::span<std::byte> piece) { messages.push_back({piece, from}); });
}

}  // namespace trainer
