// Steps of a long command, as a person follows them:
//
//     [  0.1s] network
//     [  3.4s] images of basalt-1: 5 of 9
//     [ 21.0s] ✓ control plane (14.2s)
//
// On a terminal a running step is one line that is rewritten (with colour). Elsewhere each step is
// one line at its end, so that logs stay readable, and a long one says every half a minute at most
// what it is doing. Every line also goes to the log file, if there is one. Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt::cli {

class Progress {
 public:
    /// `log_path` empty: no log file; else lines are appended. Colour and rewriting only when
    /// stderr is a terminal and NO_COLOR is not set. Lines go to stderr: stdout is for results.
    explicit Progress(std::string log_path);

    /// Runs a step; prints it with its duration, or its failure.
    Result<void> step(const std::string& name, const std::function<Result<void>()>& body);
    /// What the running step is doing at the moment.
    void detail(std::string_view text);
    /// A line for the log file only.
    void log(std::string_view text);
    /// A line for both.
    void note(std::string_view text);

    const std::string& log_path() const { return log_path_; }
    double elapsed_seconds() const;

 private:
    void draw(std::string_view line);
    void print_line(std::string_view line);
    void finish_line(std::string_view line);
    void append_log(std::string_view line);

    std::mutex mutex_;
    std::string log_path_;
    std::string current_;
    bool terminal_;
    bool line_open_ = false;
    std::chrono::steady_clock::time_point last_line_;
    std::chrono::steady_clock::time_point start_;
};

}  // namespace basalt::cli
