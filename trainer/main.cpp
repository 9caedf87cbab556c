#include "trainer/cli.h"
#include "trainer/files/h5.h"
#include "trainer/ranks/process_limits.h"
#include "trainer/run/stop_requests.h"

int main(int argc, char** argv) {
  trainer::install_signal_handlers();  // first: a signal before this line kills the process
  trainer::occupy_standard_descriptors();
  trainer::h5_initialize();
  return trainer::run_program(argc, argv);
}
