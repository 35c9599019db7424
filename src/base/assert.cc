#include "base/assert.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace basalt {
namespace {
std::atomic<unsigned long> bugs_count{0};
}

void assert_failed(const char* expression, const char* file, int line) noexcept {
    std::fprintf(stderr, "assertion failed: %s at %s:%d\n", expression, file, line);
    std::fflush(stderr);
    std::abort();
}

void report_bug(const char* what, const char* file, int line) noexcept {
    bugs_count.fetch_add(1, std::memory_order_relaxed);
    std::fprintf(stderr, "bug: %s at %s:%d\n", what, file, line);
}

unsigned long bug_count() noexcept { return bugs_count.load(std::memory_order_relaxed); }

}  // namespace basalt
