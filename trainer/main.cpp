#include <csignal>

#include "trainer/cli.h"
#include "trainer/h5.h"

int main(int argc, char** argv) {
  // A closed pipe is an error of one write, not the end of a training run.
  std::signal(SIGPIPE, SIG_IGN);
  trainer::h5_initialize();
  return trainer::run_program(argc, argv);
}
