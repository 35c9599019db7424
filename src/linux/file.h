// Files and descriptors: the few operations that the cluster's state needs, each with an Error that
// names the path. Blocking; any thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace basalt::linux {

/// Owns a descriptor. -1 is none.
class FileDescriptor {
 public:
    FileDescriptor() = default;
    explicit FileDescriptor(int fd) : fd_(fd) {}
    FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        reset();
        fd_ = std::exchange(other.fd_, -1);
        return *this;
    }
    ~FileDescriptor() { reset(); }

    int get() const { return fd_; }
    bool valid() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset();

 private:
    int fd_ = -1;
};

Result<std::string> read_file(const std::string& path);
/// In place, for files of /proc, /sys and cgroups.
Result<void> write_file(const std::string& path, std::string_view text);
/// Complete or not at all: written beside, synced, renamed. Parent directories are made.
Result<void> write_file_atomically(const std::string& path, std::string_view text,
                                   unsigned mode = 0644);
/// write_file_atomically, unless the file has that text already. Returns true when it wrote.
Result<bool> update_file(const std::string& path, std::string_view text, unsigned mode = 0644);

bool exists(const std::string& path);
Result<void> make_directories(const std::string& path, unsigned mode = 0755);
/// A missing path is fine. Refuses to cross into another file system: a forgotten mount must not be
/// emptied.
Result<void> remove_tree(const std::string& path);
/// Atomically points the symlink `link` at `target`.
Result<void> replace_symlink(const std::string& target, const std::string& link);
/// Names in a directory, sorted; none for a missing one.
std::vector<std::string> list_directory(const std::string& path);
/// The last `lines` lines of a file, for showing to a person; empty when unreadable.
std::string tail_file(const std::string& path, size_t lines);

/// An exclusive lock on a file (flock), held until the object ends. The holder's death frees it.
/// Errors: FailedPrecondition when someone else holds it and `wait` is false.
Result<FileDescriptor> lock_file(const std::string& path, bool wait);
/// True when some process holds the lock.
bool is_locked(const std::string& path);

}  // namespace basalt::linux
