// TenantSession: the controller's hold on one tenant's cluster.
//
// One connection to its API server with the control plane's own administrator certificate, and
// metadata watches on the objects that carry our label. ensure() writes an object when it was never
// written with this content, or when its watch shows a state that is not the one we wrote; else
// nothing is sent. So an edit or a deletion by the tenant is undone by the watch that sees it, and
// an idle tenant costs nothing but its watches.
//
// Nothing that its cluster does is trusted: answers, events, and the number of objects that are
// kept are limited, its changes wake us at a limited rate, and the work is done in the session's
// own tasks, so that a cluster that answers slowly holds nobody but itself up.
//
// A session may begin on the address of a Pod that nobody else is led to yet: then work_ahead()
// does the work while the Pod becomes Ready, and reroute() leads it to the Service afterwards.
//
// One loop. stop() and wait before destruction.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/task_group.h"
#include "controlplane/tenant_objects.h"
#include "kube/cache.h"
#include "kube/client.h"

namespace basalt::controlplane {

class TenantSession {
 public:
    /// Called when ensure() should be called again, after this long.
    using OnChange = std::function<void(Duration delay)>;

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

    /// Does beside everything else what a join needs: writes `objects` as soon as the API server
    /// answers, then waits until tokens are signed, so that ensure() and signs_tokens() find it
    /// done. Tries until it succeeds, at longer and longer intervals, or until ensure(). Called
    /// again, it goes on with these objects.
    void work_ahead(std::vector<data::Value> objects);
    /// True while work_ahead() was all that was asked for.
    bool is_preparing() const { return !watching_; }
    /// To the same cluster by another address. The next ensure() makes sure that it leads there.
    void reroute(std::shared_ptr<net::HttpTransport> transport, std::string server);

    /// Reason of the error when the cluster has more objects with our label than can be followed.
    static constexpr std::string_view kTooManyObjects = "TooManyObjects";
    enum class State {
        kInPlace,
        kUnsigned,  ///< The objects are, but tokens are not signed yet: ask again.
        kUnderWay,  ///< The cluster takes long; OnChange is called when it is known.
    };
    /// Makes exactly `objects` be, among those with our label; starts the watches once that
    /// succeeded first; then, with `prove`, that a node could join: signs_tokens(). Waits for it
    /// two seconds, and not at all after a time when that was not enough. What cannot be done in
    /// one go is done in the next.
    async::Task<Result<State>> ensure(std::vector<data::Value> objects, bool prove = false);
    /// Proves that a node could join now: the tenant's controller manager signs cluster-info for a
    /// bootstrap token made here, which is good for nothing else, expires in two minutes and is
    /// removed as soon as it is signed. False: not yet; ask again.
    async::Task<Result<bool>> signs_tokens();
    /// "v1.36.3", as the API server that answers says.
    async::Task<Result<std::string>> server_version();

    /// Bytes of what is kept of the cluster's objects.
    size_t memory_size() const;

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
    async::Task<void> keep_working_ahead();
    /// True when it is done.
    async::Task<bool> try_ahead();
    /// Only writes what differs from what was written here before.
    async::Task<Result<void>> write_all(std::vector<data::Value> objects);
    const Kind& kind_of(const data::Value& object) const;
    bool in_place(const data::Value& intent, const std::string& id) const;
    async::Task<Result<void>> write(data::Value intent, std::string id);
    /// Removes the Service of this name when it has other addresses than `intent`: they are fixed.
    /// False: it has not.
    async::Task<Result<bool>> remove_elsewhere(data::Value intent);
    using Extra = std::pair<const Kind*, kube::ObjectKey>;
    /// Objects with our label that are not in `objects`.
    std::vector<Extra> find_others(const std::vector<data::Value>& objects) const;
    async::Task<Result<void>> remove(Extra extra);
    Result<void> check_limits() const;
    bool is_in_place(const std::vector<data::Value>& objects) const;
    async::Task<Result<void>> settle(std::vector<data::Value> objects);
    /// settle() and the proof; keeps the outcome for ensure().
    async::Task<void> work(std::vector<data::Value> objects, bool prove);
    async::Task<Result<void>> wait_for_work();
    Duration pace();

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
    std::vector<data::Value> ahead_;  ///< What work_ahead() writes; empty when it has ended.
    bool working_ahead_ = false;
    bool answered_ = false;      ///< The API server, to work_ahead().
    bool signed_ahead_ = false;  ///< The next signs_tokens() need not prove it again.

    bool working_ = false;                  ///< work() is.
    bool awaited_ = false;                  ///< By ensure().
    bool slow_ = false;                     ///< The latest work took longer than ensure() waits.
    uint64_t wish_ = 0;                     ///< A hash of what work() does, or did.
    std::optional<Result<State>> outcome_;  ///< Of work() that nobody has asked for yet.
    async::Condition worked_;
    double changes_left_;  ///< Token bucket of OnChange.
    TimePoint changes_at_{};
    async::TaskGroup group_;
};

}  // namespace basalt::controlplane
