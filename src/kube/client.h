// A client of the Kubernetes API: typed by nothing but URLs, documents in and out.
//
// Every call has a deadline (Options::request_timeout or the call's own). The client limits itself
// (token bucket), waits out 429 and Retry-After, and sends a request again when it certainly was
// not acted on. All else is the caller's: an Error carries the canonical code of the Status
// (Conflict is Aborted, AlreadyExists, NotFound, Forbidden is PermissionDenied, Invalid is
// InvalidArgument, Expired is OutOfRange, TooManyRequests is ResourceExhausted …), its reason in
// reason(), the HTTP status in cause_code().
//
// One loop. A Client is cheap (it shares its transport) and must outlive its calls. Returned tasks
// must be awaited (or wrapped) within the statement that made them: they refer to the client only,
// arguments are copied.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/task.h"
#include "async/wait.h"
#include "kube/object.h"
#include "net/http.h"

namespace basalt::kube {

/// What every call may set.
struct CallOptions {
    CallOptions() = default;
    /// Instead of Client::Options::request_timeout.
    std::optional<Duration> timeout;
    /// "status", "scale", "token", "eviction", "binding" …
    std::string subresource;
    /// Receives the server's Status document when the call fails with one: details.causes[] names
    /// fields. Must outlive the call.
    Value* failure = nullptr;
};

struct GetOptions : CallOptions {
    GetOptions() = default;
    /// "" is the most recent state, "0" whatever the server has at hand.
    std::string resource_version;
    /// Metadata only (PartialObjectMetadata).
    bool metadata_only = false;
};

struct ListOptions : CallOptions {
    ListOptions() = default;
    std::string label_selector;
    std::string field_selector;
    /// Objects a page; 0 asks for all at once.
    int64_t page_size = 500;
    std::string resource_version;
    std::string resource_version_match;  ///< "", "Exact", "NotOlderThan"
    bool metadata_only = false;
};

struct WriteOptions : CallOptions {
    WriteOptions() = default;
    bool dry_run = false;
    /// "" is Options::field_manager.
    std::string field_manager;
    /// "", "Ignore", "Warn", "Strict"
    std::string field_validation;
    /// apply(): take over fields of other managers.
    bool force = true;
};

enum class Propagation { kDefault, kBackground, kForeground, kOrphan };

struct DeleteOptions : CallOptions {
    DeleteOptions() = default;
    std::string uid;               ///< Precondition, unless empty.
    std::string resource_version;  ///< Precondition, unless empty.
    Propagation propagation = Propagation::kDefault;
    std::optional<int64_t> grace_period_seconds;
    bool dry_run = false;
};

enum class PatchType { kMerge, kJson, kStrategic, kApply };

struct ObjectList {
    std::vector<Value> items;
    std::string resource_version;
    std::string continue_token;  ///< list_page() only: more is to come.
};

struct WatchOptions : CallOptions {
    WatchOptions() = default;
    std::string label_selector;
    std::string field_selector;
    std::string resource_version;
    bool bookmarks = true;
    /// The server sends the state first and then a bookmark with annotation
    /// k8s.io/initial-events-end.
    bool send_initial_events = false;
    bool metadata_only = false;
    /// The server ends the watch after this; 0 leaves it to the server (30-60 min).
    int64_t timeout_seconds = 0;
};

class Watch;

/// Which resources a server has; see Client::discover().
class Discovery {
 public:
    struct Entry {
        Resource resource;
        std::string singular;
        std::vector<std::string> short_names;
        std::vector<std::string> verbs;
        std::vector<std::string> subresources;
    };
    explicit Discovery(std::vector<Entry> entries) : entries_(std::move(entries)) {}
    const std::vector<Entry>& entries() const { return entries_; }
    const Entry* find(const Gvk& gvk) const;
    /// By plural, singular, short name or "plural.group", as kubectl takes it.
    const Entry* find_name(std::string_view name) const;

 private:
    std::vector<Entry> entries_;  ///< In the server's order of preference.
};

/// What a client reports of each request, for metrics: method, host, HTTP status (0: no answer),
/// duration.
using RequestObserver =
    std::function<void(std::string_view method, std::string_view host, int status, Duration took)>;

struct ClientOptions {
    ClientOptions() = default;
    std::string user_agent = "basalt";
    std::string host = "kubernetes";  ///< For metrics only.
    std::string field_manager = "basalt";
    Duration request_timeout = std::chrono::seconds(30);
    /// Client-side limit; requests above it wait. 0 switches it off.
    double qps = 100;
    double burst = 200;
    /// How often one call is sent again after 429, or when it was certainly not acted on.
    int retries_count_max = 5;
    /// Longest Retry-After that a call waits out itself; longer ones are returned as errors.
    Duration retry_after_max = std::chrono::seconds(30);
    size_t response_size_max = 64ULL << 20;
    /// One event above this ends a watch: the API server takes no object above 3 MiB.
    size_t watch_event_size_max = 16ULL << 20;
    /// A leader's fence: asked before each write (all but GET) and as it is sent; may refuse it.
    std::function<Result<void>()> write_guard;
    RequestObserver observer;
    std::string impersonate_user;
    std::vector<std::string> impersonate_groups;
};

class Client {
 public:
    using Options = ClientOptions;

    Client(async::Loop& loop, std::shared_ptr<net::HttpTransport> transport, Options options = {});
    ~Client();

    async::Loop& loop() const { return loop_; }
    const Options& options() const { return options_; }
    /// Instead of Options::write_guard, for a guard that is made later than the client.
    void set_write_guard(std::function<Result<void>()> guard) {
        options_.write_guard = std::move(guard);
    }
    const std::shared_ptr<net::HttpTransport>& transport() const { return transport_; }

    async::Task<Result<Value>> get(const Resource& resource, const ObjectKey& key,
                                   const GetOptions& options = {});
    /// All pages. Restarts once without pages when the continuation expired. `ns` "" lists all
    /// namespaces.
    async::Task<Result<ObjectList>> list(const Resource& resource, const std::string& ns = {},
                                         const ListOptions& options = {});
    async::Task<Result<ObjectList>> list_page(const Resource& resource, const std::string& ns,
                                              const ListOptions& options,
                                              const std::string& continue_token);
    /// With `subresource`, creates that of the object named in `object`: pods/eviction,
    /// serviceaccounts/token.
    async::Task<Result<Value>> create(const Resource& resource, Value object,
                                      const WriteOptions& options = {});
    /// PUT; conflicts (Aborted) when metadata.resourceVersion is set and old.
    async::Task<Result<Value>> replace(const Resource& resource, Value object,
                                       const WriteOptions& options = {});
    async::Task<Result<Value>> patch(const Resource& resource, const ObjectKey& key, PatchType type,
                                     const Value& body, const WriteOptions& options = {});
    async::Task<Result<Value>> merge_patch(const Resource& resource, const ObjectKey& key,
                                           const Value& body, const WriteOptions& options = {});
    async::Task<Result<Value>> json_patch(const Resource& resource, const ObjectKey& key,
                                          const Value& operations,
                                          const WriteOptions& options = {});
    /// Server-side apply of `object` (apiVersion, kind and name in it). A conflict without force is
    /// Aborted.
    async::Task<Result<Value>> apply(const Resource& resource, Value object,
                                     const WriteOptions& options = {});
    /// DELETE. The answer is the object as it goes (finalizers) or a Status. NotFound is an error.
    async::Task<Result<Value>> remove(const Resource& resource, const ObjectKey& key,
                                      const DeleteOptions& options = {});
    async::Task<Result<Value>> remove_collection(const Resource& resource, const std::string& ns,
                                                 const ListOptions& selector,
                                                 const DeleteOptions& options = {});

    /// Any request with a JSON answer; `target` starts with '/'. Statuses from 400 on are errors.
    async::Task<Result<Value>> request(std::string method, std::string target,
                                       const Value& body = {}, const CallOptions& options = {});
    /// The answer as text (healthz, logs).
    async::Task<Result<std::string>> request_text(std::string method, std::string target,
                                                  const CallOptions& options = {});
    /// Opens a stream. The deadline covers the response's header only; reads are the caller's to
    /// limit.
    async::Task<Result<net::HttpResponse>> open(net::HttpRequest http_request,
                                                const CallOptions& options = {});
    async::Task<Result<std::unique_ptr<Watch>>> watch(const Resource& resource,
                                                      const std::string& ns,
                                                      const WatchOptions& options);

    /// Asks the server for its resources (aggregated discovery, falling back to one request a group
    /// version).
    async::Task<Result<std::shared_ptr<const Discovery>>> discover();
    /// Where requests for `gvk` go. Uses what discover() last found; asks again when the kind is
    /// missing there, at most every 5 seconds. NotFound when the server does not have it.
    async::Task<Result<Resource>> resource_for(const Gvk& gvk);
    async::Task<Result<Resource>> resource_for(const Value& object) {
        return resource_for(gvk_of(object));
    }

 private:
    friend class Watch;
    struct Call;
    async::Task<Result<std::string>> run(Call call);
    async::Task<Result<Value>> run_json(Call call);
    async::Task<Result<std::string>> run_attempts(Call call);
    async::Task<Result<std::string>> run_once(const Call* call);
    async::Task<Result<net::HttpResponse>> open_call(Call call);
    async::Task<Result<net::HttpResponse>> open_attempts(Call call);
    async::Task<Result<net::HttpResponse>> send_once(const Call* call);
    async::Task<Result<void>> wait_before_retry(const Call* call, int attempt, Error error);
    async::Task<Result<void>> admit();
    async::Task<Result<ObjectList>> list_all(Resource resource, std::string ns,
                                             ListOptions options);
    async::Task<Result<ObjectList>> list_one(Call call);
    async::Task<Result<std::unique_ptr<Watch>>> watch_call(Call call);
    async::Task<Result<std::shared_ptr<const Discovery>>> discover_group_versions();
    async::Task<Result<Resource>> find_resource(Gvk gvk);
    Call call_for(std::string method, const Resource& resource, const std::string& ns,
                  const std::string& name, const CallOptions& options) const;
    Call write_call(std::string method, const Resource& resource, const Value& object,
                    const WriteOptions& options, bool with_name) const;
    void observe(const Call& call, int status, TimePoint since) const;

    async::Loop& loop_;
    std::shared_ptr<net::HttpTransport> transport_;
    Options options_;
    double tokens_;
    TimePoint tokens_at_;
    std::shared_ptr<const Discovery> discovery_;
    TimePoint discovered_at_{};
};

/// "/api/v1/namespaces/a/pods/b/status": the path of a request, each segment encoded.
std::string resource_path(const Resource& resource, std::string_view ns, std::string_view name = {},
                          std::string_view subresource = {});

/// The Error that an answer with `http_status` and `body` (a Status, or anything else) stands for.
Error error_from_status(int http_status, std::string_view body, std::string_view retry_after = {});
Error error_from_status(const Value& status);

/// True for a failure that says "the version asked for is gone": list again.
bool is_expired(const Error& error);
/// 429, 503 and the like: the server's word, or the connection's, that the same request may succeed
/// later.
bool is_transient(const Error& error);

}  // namespace basalt::kube
