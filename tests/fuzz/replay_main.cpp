// Runs a fuzz target once over every file of the given files and folders: the corpus as a test,
// with any compiler.
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <vector>

#include "core/file.h"
#include "tests/fuzz/fuzz.h"

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_below(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file()) files.push_back(entry.path());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const fs::path& file : files_below(argv[i])) {
      const std::string input = core::read_text(file);
      const std::clock_t start = std::clock();  // of the processor: the machine may be busy
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
      const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      if (seconds > 2) {
        std::fprintf(stderr, "%s: error: took %.1f s, at most 2 are right\n", file.c_str(),
                     seconds);
        return 1;
      }
      ++count;
    }
  }
  std::printf("%zu inputs\n", count);
  return count > 0 ? 0 : 1;
}
