#include "trainer/files/h5_links.h"

#include <hdf5.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "core/error.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxGroups = 16, kMaxLinks = size_t{1} << 20, kMaxNameBytes = size_t{64} << 20;

struct Links {
  const fs::path& path;
  std::vector<H5Link> found = {};
  size_t name_bytes = 0;
  std::exception_ptr error = {};

  void add(H5Link link) {
    const auto require_at_most = [&](size_t limit, size_t value, const char* what) {
      if (value > limit)
        core::fail(core::ExitCode::kBadData, {.path = path,
                                              .place = link.name.substr(0, 80),
                                              .field = what,
                                              .expected = "at most " + std::to_string(limit),
                                              .found = std::to_string(value)});
    };
    const auto groups = std::count(link.name.begin(), link.name.end(), '/');
    require_at_most(kMaxGroups, static_cast<size_t>(groups), "groups around a name");
    require_at_most(kMaxLinks, found.size() + 1, "names");
    require_at_most(kMaxNameBytes, name_bytes += link.name.size(), "bytes of names");
    found.push_back(std::move(link));
  }
};

herr_t collect_link(hid_t, const char* name, const H5L_info_t* info, void* out) {
  Links& links = *static_cast<Links*>(out);
  try {
    links.add({name, info->type == H5L_TYPE_HARD});
    return 0;
  } catch (...) {
    links.error = std::current_exception();  // none may pass through C
    return -1;
  }
}

}  // namespace

std::optional<std::vector<H5Link>> list_h5_links(int64_t file, const fs::path& path) {
  Links links{.path = path};
  if (H5Lvisit(file, H5_INDEX_NAME, H5_ITER_INC, collect_link, &links) >= 0)
    return std::move(links.found);
  if (links.error) std::rethrow_exception(links.error);
  return std::nullopt;
}

}  // namespace trainer
