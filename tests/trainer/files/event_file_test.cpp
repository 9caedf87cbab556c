#include "trainer/files/event_file.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace trainer {
namespace {

uint64_t little_endian(const std::string& bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i)
    value |= uint64_t{static_cast<unsigned char>(bytes.at(at + i))} << (8 * i);
  return value;
}

// RFC 3720, B.4.
TEST(Crc32cTest, GoldenValues) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending += static_cast<char>(i);
  EXPECT_EQ(crc32c(ascending), 0x46DD794EU);
  EXPECT_EQ(crc32c(""), 0U);
}

TEST(Crc32cTest, MaskRotatesAndShifts) {
  // 0xE3069283 rotated right by 15 bits is 0x2507C60D.
  EXPECT_EQ(masked_crc32c("123456789"), 0x2507C60DU + 0xA282EAD8U);
}

TEST(EventFileTest, RecordIsFramedByItsLengthAndSums) {
  const std::string record = event_scalars(1.5, 300, {{"a", 0.25}});
  const uint64_t length = little_endian(record, 0, 8);
  ASSERT_EQ(record.size(), 8 + 4 + length + 4);
  EXPECT_EQ(little_endian(record, 8, 4), masked_crc32c(record.substr(0, 8)));
  const std::string event = record.substr(12, length);
  EXPECT_EQ(little_endian(record, 12 + length, 4), masked_crc32c(event));
  const std::string expected(
      "\x09\x00\x00\x00\x00\x00\x00\xF8\x3F"  // 1: 1.5
      "\x10\xAC\x02"                          // 2: 300
      "\x2A\x0A"                              // 5, 10 bytes
      "\x0A\x08"                              //   1, 8 bytes
      "\x0A\x01"
      "a"                      //     1: "a"
      "\x15\x00\x00\x80\x3E",  //     2: 0.25f
      9 + 3 + 2 + 2 + 3 + 5);
  EXPECT_EQ(event, expected);
}

TEST(EventFileTest, FirstRecordNamesTheVersion) {
  EXPECT_NE(event_file_version(0).find("\x1A\x0D"
                                       "brain.Event:2"),
            std::string::npos);
}

}  // namespace
}  // namespace trainer
