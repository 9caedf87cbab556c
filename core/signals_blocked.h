// Keeps signals to the thread that expects them.
#pragma once

#include <csignal>

namespace core {

// Threads started within the scope receive no signals: system calls of theirs are not interrupted.
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  ::sigset_t before_;
};

}  // namespace core
