#include "linux/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <ftw.h>

#include "base/strings.h"

namespace basalt::linux {
namespace fs = std::filesystem;

void FileDescriptor::reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

Result<std::string> read_file(const std::string& path) {
    FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return errno_error(errno, fmt::format("open {}", path));
    std::string text;
    char buffer[16384];
    for (;;) {
        const ssize_t count = ::read(file.get(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error(errno, fmt::format("read {}", path));
        if (count == 0) return text;
        text.append(buffer, static_cast<size_t>(count));
    }
}

namespace {

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
    while (!text.empty()) {
        const ssize_t count = ::write(fd, text.data(), text.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error(errno, fmt::format("write {}", path));
        text.remove_prefix(static_cast<size_t>(count));
    }
    return {};
}

}  // namespace

Result<void> write_file(const std::string& path, std::string_view text) {
    FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file.valid()) return errno_error(errno, fmt::format("open {}", path));
    return write_all(file.get(), text, path);
}

Result<void> write_file_atomically(const std::string& path, std::string_view text, unsigned mode) {
    BASALT_TRY(make_directories(fs::path(path).parent_path().string()));
    std::string temporary = path + ".XXXXXX";
    FileDescriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!file.valid()) return errno_error(errno, fmt::format("create {}", path));
    Result<void> written = write_all(file.get(), text, path);
    if (written.ok() &&
        (::fchmod(file.get(), static_cast<mode_t>(mode)) != 0 || ::fdatasync(file.get()) != 0)) {
        written = errno_error(errno, fmt::format("write {}", path));
    }
    if (written.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
        written = errno_error(errno, fmt::format("rename to {}", path));
    }
    if (!written.ok()) ::unlink(temporary.c_str());
    return written;
}

Result<bool> update_file(const std::string& path, std::string_view text, unsigned mode) {
    Result<std::string> old = read_file(path);
    if (old.ok() && *old == text) return false;
    BASALT_TRY(write_file_atomically(path, text, mode));
    return true;
}

bool exists(const std::string& path) {
    struct stat status{};
    return ::lstat(path.c_str(), &status) == 0;
}

Result<void> make_directories(const std::string& path, unsigned mode) {
    if (path.empty() || path == "/") return {};
    if (::mkdir(path.c_str(), static_cast<mode_t>(mode)) == 0) return {};
    if (errno == ENOENT) {
        BASALT_TRY(make_directories(fs::path(path).parent_path().string(), mode));
        if (::mkdir(path.c_str(), static_cast<mode_t>(mode)) == 0) return {};
    }
    const int error = errno;
    struct stat status{};
    if (error == EEXIST && ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return {};
    return errno_error(error, fmt::format("create directory {}", path));
}

namespace {

int remove_entry(const char* path, const struct stat*, int, struct FTW*) {
    return ::remove(path) == 0 || errno == ENOENT ? 0 : errno;
}

}  // namespace

Result<void> remove_tree(const std::string& path) {
    if (!exists(path)) return {};
    // FTW_MOUNT stays on one file system, FTW_PHYS does not follow links, FTW_DEPTH lists contents
    // first.
    const int error = ::nftw(path.c_str(), remove_entry, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    if (error > 0) return errno_error(error, fmt::format("remove {}", path));
    if (error < 0) return errno_error(errno, fmt::format("remove {}", path));
    return {};
}

Result<void> replace_symlink(const std::string& target, const std::string& link) {
    const std::string temporary = fmt::format("{}.{}", link, ::getpid());
    ::unlink(temporary.c_str());
    if (::symlink(target.c_str(), temporary.c_str()) != 0 ||
        ::rename(temporary.c_str(), link.c_str()) != 0) {
        return errno_error(errno, fmt::format("symlink {}", link));
    }
    return {};
}

std::vector<std::string> list_directory(const std::string& path) {
    std::vector<std::string> names;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(path, ignored)) {
        names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
}

std::string tail_file(const std::string& path, size_t lines) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) return {};
    constexpr std::streamoff kTailBytes = 64 * 1024;
    const std::streamoff size = file.tellg();
    file.seekg(std::max<std::streamoff>(0, size - kTailBytes));
    std::string text{std::istreambuf_iterator<char>(file), {}};
    size_t position = text.size();
    if (position > 0 && text.back() == '\n') --position;
    for (size_t i = 0; i < lines && position != std::string::npos && position > 0; ++i) {
        position = text.rfind('\n', position - 1);
    }
    return position == std::string::npos || position == 0 ? text : text.substr(position + 1);
}

Result<FileDescriptor> lock_file(const std::string& path, bool wait) {
    BASALT_TRY(make_directories(fs::path(path).parent_path().string()));
    FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!file.valid()) return errno_error(errno, fmt::format("open {}", path));
    while (::flock(file.get(), LOCK_EX | (wait ? 0 : LOCK_NB)) != 0) {
        if (errno == EINTR) continue;
        if (errno == EWOULDBLOCK)
            return failed_precondition(fmt::format("{} is locked by another process", path));
        return errno_error(errno, fmt::format("lock {}", path));
    }
    return file;
}

bool is_locked(const std::string& path) {
    FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!file.valid()) return false;
    // A shared lock would do for the test and lets several testers not disturb each other.
    return ::flock(file.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

}  // namespace basalt::linux
