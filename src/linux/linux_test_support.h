// A directory of its own for a test, removed afterwards.
#pragma once

#include <cstdlib>
#include <string>

#include "linux/file.h"

namespace basalt::linux {

class TemporaryDirectory {
 public:
    TemporaryDirectory() {
        std::string pattern = "/tmp/basalt-test-XXXXXX";
        path_ = ::mkdtemp(pattern.data());
    }
    ~TemporaryDirectory() { (void)remove_tree(path_); }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    const std::string& path() const { return path_; }

 private:
    std::string path_;
};

}  // namespace basalt::linux
