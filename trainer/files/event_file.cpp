#include "trainer/files/event_file.h"

#include <array>
#include <bit>

namespace trainer {
namespace {

// Wire types of protobuf.
enum Wire : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

template <class Unsigned>
void append_little_endian(std::string& out, Unsigned value) {
  for (size_t i = 0; i < sizeof value; ++i) out += static_cast<char>((value >> (8 * i)) & 0xFF);
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  out += static_cast<char>(value);
}

void append_key(std::string& out, uint64_t field, Wire wire) {
  append_varint(out, field << 3 | wire);
}

void append_int(std::string& out, uint64_t field, int64_t value) {
  append_key(out, field, kVarint);
  append_varint(out, static_cast<uint64_t>(value));
}

void append_double(std::string& out, uint64_t field, double value) {
  append_key(out, field, kFixed64);
  append_little_endian(out, std::bit_cast<uint64_t>(value));
}

void append_float(std::string& out, uint64_t field, float value) {
  append_key(out, field, kFixed32);
  append_little_endian(out, std::bit_cast<uint32_t>(value));
}

void append_bytes(std::string& out, uint64_t field, std::string_view value) {
  append_key(out, field, kBytes);
  append_varint(out, value.size());
  out += value;
}

std::string event_at(double wall_time, int64_t step) {
  std::string event;
  append_double(event, 1, wall_time);
  append_int(event, 2, step);
  return event;
}

std::string record_of(const std::string& event) {
  std::string record;
  append_little_endian(record, uint64_t{event.size()});
  append_little_endian(record, masked_crc32c(record));
  record += event;
  append_little_endian(record, masked_crc32c(event));
  return record;
}

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = crc;
  }
  return table;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = ~0U;
  for (const char c : bytes)
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8U;
}

std::string event_file_version(double wall_time) {
  std::string event = event_at(wall_time, 0);
  append_bytes(event, 3, "brain.Event:2");
  return record_of(event);
}

std::string event_session_start(double wall_time, int64_t step) {
  constexpr int64_t kStart = 1;
  std::string event = event_at(wall_time, step), log;
  append_int(log, 1, kStart);
  append_bytes(event, 7, log);
  return record_of(event);
}

std::string event_scalars(double wall_time, int64_t step,
                          const std::vector<std::pair<std::string, double>>& scalars) {
  std::string event = event_at(wall_time, step), summary;
  for (const auto& [tag, scalar] : scalars) {
    std::string value;
    append_bytes(value, 1, tag);
    append_float(value, 2, static_cast<float>(scalar));
    append_bytes(summary, 1, value);
  }
  append_bytes(event, 5, summary);
  return record_of(event);
}

}  // namespace trainer
