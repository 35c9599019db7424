#include "cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

namespace basalt::cli {
namespace {

constexpr const char* kGreen = "\033[32m";
constexpr const char* kRed = "\033[31m";
constexpr const char* kDim = "\033[2m";
constexpr const char* kReset = "\033[0m";

/// Away from terminals: a step's details are printed this often at most.
constexpr std::chrono::seconds kDetailInterval(30);

size_t terminal_width() {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Progress::Progress(std::string log_path)
    : log_path_(std::move(log_path)),
      terminal_(::isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr),
      last_line_(std::chrono::steady_clock::now()),
      start_(last_line_) {}

double Progress::elapsed_seconds() const { return seconds_since(start_); }

Result<void> Progress::step(const std::string& name, const std::function<Result<void>()>& body) {
    const auto step_start = std::chrono::steady_clock::now();
    {
        std::lock_guard lock(mutex_);
        current_ = name;
        append_log(fmt::format("begin {}", name));
        if (terminal_) draw(name);
    }
    Result<void> result = body();
    std::lock_guard lock(mutex_);
    const double took = seconds_since(step_start);
    append_log(result.ok() ? fmt::format("done {} ({:.1f}s)", name, took)
                           : fmt::format("failed {} ({:.1f}s)", name, took));
    const char* colour = result.ok() ? kGreen : kRed;
    const char* mark = result.ok() ? "✓" : "✗";
    if (terminal_) {
        finish_line(
            fmt::format("{}{}{} {} {}({:.1f}s){}", colour, mark, kReset, name, kDim, took, kReset));
    } else {
        finish_line(fmt::format("{} {} ({:.1f}s)", mark, name, took));
    }
    current_.clear();
    return result;
}

void Progress::detail(std::string_view text) {
    std::lock_guard lock(mutex_);
    append_log(text);
    const std::string line = fmt::format("{}: {}", current_, text);
    if (terminal_) {
        draw(line);
    } else if (std::chrono::steady_clock::now() - last_line_ >= kDetailInterval) {
        print_line(line);
    }
}

void Progress::log(std::string_view text) {
    std::lock_guard lock(mutex_);
    append_log(text);
}

void Progress::note(std::string_view text) {
    std::lock_guard lock(mutex_);
    append_log(text);
    finish_line(text);
}

void Progress::draw(std::string_view line) {
    std::string text = fmt::format("[{:5.1f}s] {}", elapsed_seconds(), line);
    const size_t width = terminal_width() - 1;
    if (text.size() > width) text.resize(width);
    fmt::print(stderr, "\r\033[K{}", text);
    std::fflush(stderr);
    line_open_ = true;
}

void Progress::finish_line(std::string_view line) {
    if (line_open_) fmt::print(stderr, "\r\033[K");
    line_open_ = false;
    print_line(line);
}

void Progress::print_line(std::string_view line) {
    fmt::print(stderr, "[{:5.1f}s] {}\n", elapsed_seconds(), line);
    std::fflush(stderr);
    last_line_ = std::chrono::steady_clock::now();
}

void Progress::append_log(std::string_view line) {
    if (log_path_.empty()) return;
    if (FILE* file = std::fopen(log_path_.c_str(), "ae")) {
        fmt::print(file, "{:8.2f} {}\n", elapsed_seconds(), line);
        std::fclose(file);
    }
}

}  // namespace basalt::cli
