// Invariants. BASALT_ASSERT stays on in release builds and ends the process with file, line and the
// failed expression. It is for our own mistakes only: input from outside never asserts, it returns
// an Error.
#pragma once

namespace basalt {

[[noreturn]] void assert_failed(const char* expression, const char* file, int line) noexcept;

/// Counts and logs a state that should be impossible but that the process can survive; see
/// BASALT_BUG.
void report_bug(const char* what, const char* file, int line) noexcept;
/// How often report_bug() was called in this process; tests assert that it is zero.
unsigned long bug_count() noexcept;

}  // namespace basalt

#define BASALT_ASSERT(expression)                         \
    (static_cast<bool>(expression) ? static_cast<void>(0) \
                                   : ::basalt::assert_failed(#expression, __FILE__, __LINE__))

/// A survivable impossibility: counted, logged, and execution goes on.
#define BASALT_BUG(what) ::basalt::report_bug(what, __FILE__, __LINE__)
