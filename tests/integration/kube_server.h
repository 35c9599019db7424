// A real kube-apiserver on a real etcd, for tests: processes on free ports of loopback,
// certificates made here.
//
// One server a Kubernetes version and test program; it starts with the first use (about 3 s) and
// ends with the program, even when that is killed. Nothing else of a cluster runs: no controller
// manager, no scheduler.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "async/real_loop.h"
#include "async/task_group.h"
#include "async/wait.h"
#include "kube/client.h"
#include "kube/config.h"
#include "pki/certificate.h"

namespace basalt::integration {

/// A child process that dies with this one. Output goes to a file.
class Process {
 public:
    Process(std::vector<std::string> argv, const std::string& log_path);
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    void stop();
    bool is_running();

 private:
    int pid_ = -1;
};

/// A port that was free a moment ago.
uint16_t free_port();
/// True when something listens there on loopback.
bool can_connect(uint16_t port);

class KubeServer {
 public:
    /// "1.36.3", "1.35.4"; null when the programs are not there (`missing` says which).
    static KubeServer* get(const std::string& version, std::string* missing);

    ~KubeServer();
    Result<void> start_api_server();
    void stop_api_server();
    /// Credentials of a member of system:masters, or of any user.
    kube::Access access(const std::string& user = "admin",
                        const std::string& group = "system:masters") const;
    const std::string& version() const { return version_; }
    const std::string& directory() const { return directory_; }
    /// The path of another program of this version.
    std::string program(const std::string& name) const;

 private:
    explicit KubeServer(std::string version) : version_(std::move(version)) {}
    Result<void> start();
    std::string write(const std::string& name, std::string_view text) const;

    std::string version_;
    std::string directory_;
    uint16_t etcd_port_ = 0;
    uint16_t port_ = 0;
    std::unique_ptr<pki::KeySource> keys_;
    std::optional<pki::CertificateAuthority> ca_;
    std::unique_ptr<Process> etcd_;
    std::unique_ptr<Process> api_server_;
};

/// One loop and one client a test, for each version.
class KubeTest : public ::testing::TestWithParam<const char*> {
 protected:
    void SetUp() override;
    void TearDown() override;

    /// Runs the loop until `task` has ended; a minute at most.
    template <class T>
    T run(async::Task<T> task) {
        std::optional<T> slot;
        async::TaskGroup own(*loop);
        own.spawn(capture(std::move(task), &slot));
        wait_until([&] { return own.size() == 0; }, std::chrono::minutes(1));
        if (own.size() > 0) {
            ADD_FAILURE() << "the task does not end";
            own.cancel();
            wait_until([&] { return own.size() == 0; }, std::chrono::minutes(1));
        }
        return std::move(*slot);
    }
    template <class T>
    async::Task<void> capture(async::Task<T> task, std::optional<T>* slot) {
        T result = co_await task;
        slot->emplace(std::move(result));
    }
    /// Runs the loop until `done` is true; false after `limit`. Looked at every few milliseconds.
    bool wait_until(const std::function<bool()>& done, Duration limit);
    std::unique_ptr<kube::Client> make_client(const kube::Access& access);
    /// A namespace of this test's own.
    std::string make_namespace();

    KubeServer* server = nullptr;
    std::unique_ptr<async::RealLoop> loop;
    std::unique_ptr<async::TaskGroup> group;
    std::unique_ptr<kube::Client> client;
};

#define BASALT_KUBE_VERSIONS "1.35.4", "1.36.3"
std::string version_name(const ::testing::TestParamInfo<const char*>& info);

}  // namespace basalt::integration
