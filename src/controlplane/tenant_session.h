// TenantSession: the controller's hold on one tenant's cluster.
//
// One connection to its API server with the control plane's own administrator certificate, and
// metadata watches on the objects that carry our label. ensure() writes an object when it was never
// written with this content, or when its watch shows a state that is not the one we wrote; else
// nothing is sent. So an edit or a deletion by the tenant is undone by the watch that sees it, and
// an idle tenant costs nothing but its watches.
//
// A session may begin on the address of a Pod that nobody else is led to yet: then prepare() and
// signs_tokens_ahead() do the work while the Pod becomes Ready, and reroute() leads it to the
// Service afterwards.
//
// One loop. stop() and wait before destruction.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/task_group.h"
#include "controlplane/tenant_objects.h"
#include "kube/cache.h"
#include "kube/client.h"

namespace basalt::controlplane {

class TenantSession {
 public:
    using OnChange = std::function<void()>;

    /// Where it leads and as whom: another of either needs another session, or reroute().
    struct Identity {
        std::string server;
        std::string credentials;  ///< A checksum.
        bool operator==(const Identity&) const = default;
    };
    TenantSession(async::Loop& loop, std::shared_ptr<net::HttpTransport> transport,
                  Identity identity, OnChange on_change);
    ~TenantSession();

    const Identity& identity() const { return identity_; }
    kube::Client& client() { return client_; }

    /// Only writes what differs from what was written here before; nothing is watched.
    async::Task<Result<void>> prepare(std::vector<data::Value> objects);
    /// True when prepare() was all that happened so far.
    bool is_preparing() const { return !watching_; }
    /// To the same cluster by another address. The next ensure() makes sure that it leads there.
    void reroute(std::shared_ptr<net::HttpTransport> transport, std::string server);

    /// Makes exactly `objects` be, among those with our label; starts the watches once that
    /// succeeded first.
    async::Task<Result<void>> ensure(std::vector<data::Value> objects);
    /// Proves that a node could join now: the tenant's controller manager signs cluster-info for a
    /// bootstrap token made here, which is good for nothing else, expires in two minutes and is
    /// removed as soon as it is signed. False: not yet; ask again.
    async::Task<Result<bool>> signs_tokens();
    /// The same, and the next signs_tokens() need not prove it again.
    async::Task<Result<bool>> signs_tokens_ahead();
    /// "v1.36.3", as the API server that answers says.
    async::Task<Result<std::string>> server_version();

    /// Ends the watches and waits for them.
    async::Task<void> stop();

 private:
    struct Kind {
        kube::Resource resource;
        std::unique_ptr<kube::Cache> cache;
    };
    struct Written {
        uint64_t intent_hash = 0;
        std::string revision;  ///< Of the object as our write left it; see revision_of().
    };
    void watch();
    const Kind& kind_of(const data::Value& object) const;
    bool in_place(const data::Value& intent, const std::string& id) const;
    async::Task<Result<void>> write(data::Value intent, std::string id);
    async::Task<Result<void>> remove_others(std::vector<std::string> wanted);

    class Route;

    Identity identity_;
    std::shared_ptr<Route> route_;
    kube::Client client_;
    OnChange on_change_;
    std::vector<Kind> kinds_;
    std::map<std::string, Written> written_;
    std::string probe_token_id_;  ///< Of the token that signs_tokens() waits for; "" for none.
    TimePoint probe_token_made_at_{};
    bool watching_ = false;
    bool rerouted_ = false;
    bool signed_ahead_ = false;
    async::TaskGroup group_;
};

}  // namespace basalt::controlplane
