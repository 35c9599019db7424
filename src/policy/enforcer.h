// Keeps a node's nftables in step with the cluster's NetworkPolicies.
//
// Watches policies, Pods and namespaces; when something that matters changed, the whole table is
// rendered (rules.h) and, if its text differs, replaced by nft in one transaction. Nothing is taken
// away when the process ends: rules stay in force while it is restarted.
//
// A new Pod is subject to its policies from the moment its address is in the API, shortly after its
// containers start. One loop.
#pragma once

#include <cstdint>
#include <string>

#include "async/wait.h"
#include "kube/cache.h"

namespace basalt::policy {

class Enforcer {
 public:
    struct Options {
        Options() = default;
        std::string node;
        std::string nft = "nft";
        std::string routes = "/proc/self/net";  ///< Where the kernel tells its routes.
    };
    /// Asks `caches` for what it needs; before they are started.
    Enforcer(async::Loop& loop, kube::CacheSet& caches, Options options);

    /// Until cancelled.
    async::Task<Result<void>> run();
    /// Ok once the node's rules are those of the state that was there at the start; not while nft
    /// refuses later ones.
    Result<void> check_ready() const;
    uint64_t applied_count() const { return applied_count_; }

 private:
    void changed();
    std::string render() const;
    async::Task<Result<void>> apply(std::string script);

    async::Loop& loop_;
    Options options_;
    kube::CacheSet& caches_;
    kube::Cache& policies_;
    kube::Cache& pods_;
    kube::Cache& namespaces_;
    async::Condition changed_;
    bool dirty_ = true;
    std::string in_force_;
    uint64_t applied_count_ = 0;
    std::string refused_;  ///< Why the latest rules are not in force; "" when they are.
};

}  // namespace basalt::policy
