// Text of a report: escaped for HTML and XML, numbers as a reader wants them.
#pragma once

#include <string>
#include <string_view>

namespace chart {

// Safe as content and as a quoted attribute of HTML and XML. Bytes that are not UTF-8, and
// characters that XML forbids, become U+FFFD.
std::string escape(std::string_view text);

// Six significant digits, "1.2e-05" where that is shorter; "-" for what is not finite.
std::string format_number(double value);
// For an axis: 12k, 1.5M, 0.001, 1e-05.
std::string format_tick(double value);

}  // namespace chart
