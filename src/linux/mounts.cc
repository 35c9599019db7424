#include "linux/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include <fmt/format.h>

#include "linux/file.h"

namespace basalt::linux {

Result<void> mount_new(const std::string& type, const std::string& target, const std::string& data,
                       const std::string& source) {
    BASALT_TRY(make_directories(target));
    const std::string from = source.empty() ? type : source;
    if (::mount(from.c_str(), target.c_str(), type.c_str(), 0, data.c_str()) != 0) {
        return errno_error(errno, fmt::format("mount {} ({}) at {}", type, data, target));
    }
    return {};
}

Result<void> mount_bind(const std::string& source, const std::string& target, bool read_only) {
    struct stat status{};
    if (::stat(source.c_str(), &status) != 0)
        return errno_error(errno, fmt::format("bind {}", source));
    if (S_ISDIR(status.st_mode)) {
        BASALT_TRY(make_directories(target));
    } else if (!exists(target)) {
        BASALT_TRY(make_directories(std::filesystem::path(target).parent_path().string()));
        FileDescriptor created(::open(target.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    }
    if (::mount(source.c_str(), target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
        return errno_error(errno, fmt::format("bind {} at {}", source, target));
    }
    if (!read_only) return {};
    if (::mount(nullptr, target.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
        return errno_error(errno, fmt::format("make {} read-only", target));
    }
    return {};
}

Result<void> mount_overlay(const std::string& lower, const std::string& upper,
                           const std::string& work, const std::string& target) {
    BASALT_TRY(make_directories(upper));
    BASALT_TRY(make_directories(work));
    return mount_new("overlay", target,
                     fmt::format("lowerdir={},upperdir={},workdir={}", lower, upper, work));
}

Result<void> make_mounts_private() {
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) return {};
    return errno_error(errno, "make mounts private");
}

Result<void> make_mounts_shared() {
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) == 0) return {};
    return errno_error(errno, "make mounts shared");
}

Result<void> pivot_into(const std::string& root) {
    const std::string old = root + "/.old";
    BASALT_TRY(make_directories(old));
    if (::syscall(SYS_pivot_root, root.c_str(), old.c_str()) != 0 || ::chdir("/") != 0) {
        return errno_error(errno, fmt::format("pivot_root to {}", root));
    }
    if (::umount2("/.old", MNT_DETACH) != 0) return errno_error(errno, "detach the old root");
    ::rmdir("/.old");
    return {};
}

}  // namespace basalt::linux
