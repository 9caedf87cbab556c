// TensorBoard event files: records of
//   uint64 length, masked CRC-32C of these 8 bytes, the bytes, masked CRC-32C of the bytes,
// little endian, each an Event in protobuf's wire format:
//   Event {1: double wall_time, 2: int64 step, 3: string file_version, 5: Summary, 7: SessionLog}
//   Summary {1: Value {1: string tag, 2: float simple_value}}, SessionLog {1: int32 status}
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trainer {

// CRC-32C (Castagnoli), as of RFC 3720.
uint32_t crc32c(std::string_view bytes);
// Rotated by 15 bits and shifted by a constant: a CRC of bytes that hold CRCs is a poor one.
uint32_t masked_crc32c(std::string_view bytes);

// The whole record of an event. The first of a file is `event_file_version`; one of
// `event_session_start` tells the reader to forget all earlier values from its step on.
std::string event_file_version(double wall_time);
std::string event_session_start(double wall_time, int64_t step);
std::string event_scalars(double wall_time, int64_t step,
                          const std::vector<std::pair<std::string, double>>& scalars);

}  // namespace trainer
