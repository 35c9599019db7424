#include "controlplane/tenant_session.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "controlplane/names.h"
#include "data/base64.h"
#include "data/hash.h"
#include "data/json.h"
#include "data/utf8.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// Bootstrap tokens: kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens.
constexpr std::string_view kTokenPrefix = "bootstrap-token-";
constexpr size_t kTokenIdSize = 6;
constexpr size_t kTokenSecretSize = 16;
constexpr Duration kProbeTokenLife = std::chrono::minutes(2);
// Before it expires another takes its place: an expired one is never signed.
constexpr Duration kProbeTokenUse = kProbeTokenLife / 2;
constexpr Duration kTenantTimeout = std::chrono::seconds(15);
// How long a pass over a control plane waits for its cluster.
constexpr Duration kPatience = std::chrono::seconds(2);
// Of the text that a cluster refuses something with.
constexpr size_t kMessageMax = 300;
constexpr size_t kReasonMax = 64;
// Our own objects are the largest of what we ask for, and a tenth of this.
constexpr size_t kAnswerMax = 512UL << 10;
constexpr int64_t kPageSize = 50;
// We make a dozen of one kind; each takes less than a KiB.
constexpr size_t kObjectsMax = 1000;
constexpr size_t kObjectSizeMax = 4UL << 10;
constexpr size_t kRemovalsAtOnce = 20;
// Changes that wake us at once, and the pace of more.
constexpr double kChangesBurst = 20;
constexpr double kChangesPerSecond = 1;
constexpr Duration kAheadIntervalMin = std::chrono::milliseconds(100);
constexpr Duration kAheadIntervalMax = std::chrono::seconds(10);

kube::ClientOptions client_options() {
    kube::ClientOptions options;
    options.host = "tenant";
    options.field_manager = std::string(names::kFieldManager);
    options.request_timeout = kTenantTimeout;
    options.response_size_max = kAnswerMax;
    options.watch_event_size_max = kAnswerMax;
    return options;
}

// What moves when somebody else changes an object: its generation where only the spec counts
// (workloads, whose status moves all the time), its resource version elsewhere.
std::string revision_of(const Value& object, const kube::Resource& resource) {
    const Value& meta = object["metadata"];
    if (resource.group == "apps") {
        return fmt::format("{}/{}", meta["uid"].as_string(), meta["generation"].as_int());
    }
    return fmt::format("{}/{}", meta["uid"].as_string(), meta["resourceVersion"].as_string());
}

std::string id_of(const kube::Resource& resource, const Value& object) {
    return resource.plural + "/" + kube::key_of(object).to_string();
}

// What a cluster says goes into conditions, events and logs, which take words as reasons, and
// messages that somebody can read.
Error distrust(const Error& error) {
    const std::string& reason = error.reason();
    const bool word =
        reason.size() <= kReasonMax && std::all_of(reason.begin(), reason.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        });
    return Error(error.code(), data::clip_utf8(error.message(), kMessageMax))
        .with_cause(error.cause_code(), word ? reason : std::string());
}

std::string random_text(async::Loop& loop, size_t size) {
    static constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
    std::string text(size, ' ');
    for (char& c : text) c = kAlphabet[loop.random() % kAlphabet.size()];
    return text;
}

// Without usage-bootstrap-authentication: nobody can log in with it.
Value build_probe_token(async::Loop& loop, const std::string& id) {
    kube::ObjectKey key("kube-system", std::string(kTokenPrefix) + id);
    Value token = kube::make_object(kube::resources::secrets(), key);
    token.set("type", "bootstrap.kubernetes.io/token");
    Value& data = token.at("data");
    WallTime end =
        loop.wall_now() + std::chrono::duration_cast<WallTime::duration>(kProbeTokenLife);
    std::string expiration = format_rfc3339(end);
    data.set("token-id", data::base64_encode(id));
    data.set("token-secret", data::base64_encode(random_text(loop, kTokenSecretSize)));
    data.set("expiration", data::base64_encode(expiration));
    data.set("usage-bootstrap-signing", data::base64_encode("true"));
    return token;
}

// Of a tenant's object only what tells it from others and one state of it from another.
void keep_identity(Value& object) {
    Value kept;
    for (const char* field :
         {"name", "namespace", "uid", "resourceVersion", "generation", "deletionTimestamp"}) {
        if (const Value* value = object["metadata"].find(field)) kept.set(field, *value);
    }
    object = Value::object({{"metadata", std::move(kept)}});
}

}  // namespace

/// Requests go where it leads now; those under way stay where they are.
class TenantSession::Route final : public net::HttpTransport {
 public:
    explicit Route(std::shared_ptr<net::HttpTransport> transport)
        : transport_(std::move(transport)) {}
    void set(std::shared_ptr<net::HttpTransport> transport) { transport_ = std::move(transport); }
    async::Task<Result<net::HttpResponse>> send(net::HttpRequest request) override {
        std::shared_ptr<net::HttpTransport> transport = transport_;
        Result<net::HttpResponse> response = co_await transport->send(std::move(request));
        co_return std::move(response);
    }

 private:
    std::shared_ptr<net::HttpTransport> transport_;
};

TenantSession::TenantSession(async::Loop& loop, std::shared_ptr<net::HttpTransport> transport,
                             Identity identity, OnChange on_change)
    : identity_(std::move(identity)),
      route_(std::make_shared<Route>(std::move(transport))),
      client_(loop, route_, client_options()),
      on_change_(std::move(on_change)),
      changes_left_(kChangesBurst),
      group_(loop) {
    for (const TenantKind& kind : tenant_kinds()) {
        bool namespaced = !std::string_view(kind.kind).starts_with("Cluster");
        kube::CacheOptions options(
            kube::Resource(kind.api_version, kind.plural, kind.kind, namespaced));
        options.label_selector = fmt::format("{}={}", kTenantLabel, kTenantLabelValue);
        options.metadata_only = true;
        options.transform = keep_identity;
        options.reflector.page_size = kPageSize;
        options.reflector.objects_count_max = kObjectsMax;
        options.reflector.object_size_max = kObjectSizeMax;
        kinds_.push_back({options.resource, std::make_unique<kube::Cache>(client_, options)});
    }
}

TenantSession::~TenantSession() = default;

async::Task<void> TenantSession::stop() {
    on_change_ = {};
    group_.cancel();
    co_await group_.join();
}

void TenantSession::watch() {
    watching_ = true;
    for (Kind& kind : kinds_) {
        kind.cache->add_handler([this, &kind](const kube::Change& change) {
            if (!on_change_) return;
            auto written = written_.find(id_of(kind.resource, change.object()));
            bool ours = written != written_.end() && change.after &&
                        written->second.revision == revision_of(*change.after, kind.resource);
            if (!ours) on_change_(pace());
        });
        kind.cache->start(group_);
    }
}

// A tenant may change its objects a thousand times a second.
Duration TenantSession::pace() {
    const TimePoint now = client_.loop().now();
    const std::chrono::duration<double> elapsed = now - changes_at_;
    changes_at_ = now;
    changes_left_ = std::min(kChangesBurst, changes_left_ + elapsed.count() * kChangesPerSecond);
    if (changes_left_ >= 1) {
        changes_left_ -= 1;
        return Duration(0);
    }
    const std::chrono::duration<double> rest((1 - changes_left_) / kChangesPerSecond);
    return std::chrono::duration_cast<Duration>(rest);
}

const TenantSession::Kind& TenantSession::kind_of(const Value& object) const {
    auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& kind) {
        return kind.resource.kind == object["kind"].as_string();
    });
    BASALT_ASSERT(found != kinds_.end());
    return *found;
}

bool TenantSession::in_place(const Value& intent, const std::string& id) const {
    auto written = written_.find(id);
    if (written == written_.end() || written->second.intent_hash != data::hash(intent))
        return false;
    const Kind& kind = kind_of(intent);
    if (!watching_ || !kind.cache->has_synced()) return true;
    data::SharedValue live = kind.cache->get(kube::key_of(intent));
    return live != nullptr && revision_of(*live, kind.resource) == written->second.revision;
}

async::Task<Result<void>> TenantSession::write(Value intent, std::string id) {
    const Kind& kind = kind_of(intent);
    uint64_t intent_hash = data::hash(intent);
    kube::WriteOptions options;
    Value sent = intent;
    Result<Value> applied = co_await client_.apply(kind.resource, std::move(sent), options);
    if (!applied.ok() && applied.error().code() == Code::kInvalidArgument &&
        kind.resource.kind == "Service") {
        Value sought = intent;
        Result<bool> removed = co_await remove_elsewhere(std::move(sought));
        if (removed.ok() && *removed)
            applied = co_await client_.apply(kind.resource, std::move(intent), options);
    }
    if (!applied.ok())
        co_return std::move(applied).error().context("apply " + id + " in the tenant's cluster");
    written_[id] = Written{intent_hash, revision_of(*applied, kind.resource)};
    // The watch may lag: what we wrote must not look like somebody's change meanwhile.
    if (watching_ && kind.cache->has_synced()) kind.cache->observe_write(*applied);
    co_return Result<void>();
}

async::Task<Result<bool>> TenantSession::remove_elsewhere(Value intent) {
    const kube::Resource& resource = kube::resources::services();
    const kube::ObjectKey key = kube::key_of(intent);
    kube::GetOptions get_options;
    Result<Value> live = co_await client_.get(resource, key, get_options);
    if (!live.ok()) co_return std::move(live).error();
    const Value& wanted = intent["spec"]["clusterIPs"];
    const Value& present = (*live)["spec"]["clusterIPs"];
    bool elsewhere = false;
    for (size_t i = 0; i < std::min(wanted.size(), present.size()); ++i)
        elsewhere |= !(wanted[i] == present[i]);
    if (!elsewhere) co_return false;
    kube::DeleteOptions options;
    options.uid = std::string(kube::uid_of(*live));
    Result<Value> removed = co_await client_.remove(resource, key, options);
    if (!removed.ok()) co_return std::move(removed).error();
    log_info("moved to another address", {{"object", kube::describe(intent)}});
    co_return true;
}

void TenantSession::reroute(std::shared_ptr<net::HttpTransport> transport, std::string server) {
    route_->set(std::move(transport));
    identity_.server = std::move(server);
    rerouted_ = true;
}

void TenantSession::work_ahead(std::vector<Value> objects) {
    ahead_ = std::move(objects);
    if (working_ahead_) return;
    working_ahead_ = true;
    group_.spawn(keep_working_ahead());
}

async::Task<void> TenantSession::keep_working_ahead() {
    const TimePoint began = client_.loop().now();
    while (!ahead_.empty()) {
        bool done = co_await try_ahead();
        if (done) break;
        const Duration pause = std::clamp<Duration>((client_.loop().now() - began) / 16,
                                                    kAheadIntervalMin, kAheadIntervalMax);
        Result<void> slept = co_await async::sleep_for(client_.loop(), pause);
        if (!slept.ok()) break;
    }
    ahead_.clear();
    working_ahead_ = false;
}

async::Task<bool> TenantSession::try_ahead() {
    // One question, not a dozen writes, while nobody answers.
    if (!answered_) {
        Result<std::string> version = co_await server_version();
        if (!version.ok()) co_return false;
        answered_ = true;
    }
    std::vector<Value> objects = ahead_;
    Result<void> written = co_await write_all(std::move(objects));
    if (!written.ok()) co_return false;
    if (signed_ahead_) co_return true;
    Result<bool> signs = co_await signs_tokens();
    signed_ahead_ = signs.ok() && *signs;
    co_return signed_ahead_;
}

async::Task<Result<void>> TenantSession::write_all(std::vector<Value> objects) {
    std::vector<async::Task<Result<void>>> writes;
    for (Value& object : objects) {
        std::string id = id_of(kind_of(object).resource, object);
        if (!in_place(object, id)) writes.push_back(write(std::move(object), id));
    }
    Result<void> written = co_await async::join_all(client_.loop(), std::move(writes));
    co_return std::move(written);
}

async::Task<Result<TenantSession::State>> TenantSession::ensure(std::vector<Value> objects,
                                                                bool prove) {
    ahead_.clear();
    const uint64_t wish = data::hash(Value(data::Array(objects))) + (prove ? 1 : 0);
    for (;;) {
        if (!working_) {
            const bool known = outcome_ && wish_ == wish;
            std::optional<Result<State>> last = std::exchange(outcome_, std::nullopt);
            const bool settled = !prove || (known && last->ok() && **last == State::kInPlace);
            if (known && (!last->ok() || **last == State::kUnsigned)) co_return *std::move(last);
            if (settled && is_in_place(objects)) co_return State::kInPlace;
            working_ = true;
            wish_ = wish;
            group_.spawn(work(objects, prove));
        }
        if (slow_) co_return State::kUnderWay;
        Result<void> waited = co_await wait_for_work();
        if (!waited.ok() && waited.error().code() == Code::kCancelled)
            co_return std::move(waited).error();
        if (working_) {
            slow_ = true;
            co_return State::kUnderWay;
        }
        // Otherwise it was what an earlier call wished.
        if (wish_ == wish) co_return *std::exchange(outcome_, std::nullopt);
    }
}

async::Task<Result<void>> TenantSession::wait_for_work() {
    if (!working_) co_return Result<void>();
    awaited_ = true;
    async::Task<Result<void>> waiting = worked_.wait();
    Result<void> waited =
        co_await async::with_timeout(client_.loop(), kPatience, std::move(waiting));
    awaited_ = false;
    co_return waited;
}

async::Task<void> TenantSession::work(std::vector<Value> objects, bool prove) {
    const TimePoint began = client_.loop().now();
    Result<void> done = co_await settle(std::move(objects));
    if (done.ok()) done = check_limits();
    Result<State> outcome(State::kInPlace);
    if (!done.ok()) {
        outcome = std::move(done).error();
    } else if (prove) {
        Result<bool> signs = co_await signs_tokens();
        // Not being able to ask is one reason more to ask again.
        if (!signs.ok() || !*signs) outcome = State::kUnsigned;
    }
    slow_ = client_.loop().now() - began > kPatience;
    outcome_.emplace(std::move(outcome));
    working_ = false;
    worked_.notify_all();
    if (!awaited_ && on_change_) on_change_(Duration(0));
}

async::Task<Result<void>> TenantSession::settle(std::vector<Value> objects) {
    std::vector<Value> writing = objects;
    Result<void> done = co_await write_all(std::move(writing));
    if (!done.ok()) co_return distrust(done.error());
    if (rerouted_) {
        Result<std::string> answer = co_await server_version();
        if (!answer.ok()) co_return distrust(answer.error());
        rerouted_ = false;
    }
    if (!watching_) watch();
    std::vector<async::Task<Result<void>>> removals;
    std::vector<Extra> others = find_others(objects);
    if (others.size() > kRemovalsAtOnce) others.resize(kRemovalsAtOnce);
    for (Extra& extra : others) removals.push_back(remove(std::move(extra)));
    done = co_await async::join_all(client_.loop(), std::move(removals));
    if (!done.ok()) co_return distrust(done.error());
    co_return Result<void>();
}

bool TenantSession::is_in_place(const std::vector<Value>& objects) const {
    if (!watching_ || rerouted_ || !check_limits().ok() || !find_others(objects).empty())
        return false;
    return std::all_of(objects.begin(), objects.end(), [this](const Value& object) {
        return in_place(object, id_of(kind_of(object).resource, object));
    });
}

size_t TenantSession::memory_size() const {
    size_t size = 0;
    for (const Kind& kind : kinds_) size += kind.cache->memory_size();
    return size;
}

Result<void> TenantSession::check_limits() const {
    for (const Kind& kind : kinds_) {
        if (!kind.cache->stats().over_limit) continue;
        return failed_precondition(
                   fmt::format(
                       "The cluster has more than {} {} with the label {}={}, or larger ones than "
                       "can be followed: remove those that are not Basalt's",
                       kObjectsMax, kind.resource.plural, kTenantLabel, kTenantLabelValue))
            .with_cause(0, std::string(kTooManyObjects));
    }
    return {};
}

std::vector<TenantSession::Extra> TenantSession::find_others(
    const std::vector<Value>& objects) const {
    std::set<std::string> wanted;
    for (const Value& object : objects) wanted.insert(id_of(kind_of(object).resource, object));
    std::vector<Extra> others;
    for (const Kind& kind : kinds_) {
        kind.cache->for_each([&](const data::SharedValue& object) {
            if (!wanted.contains(id_of(kind.resource, *object)) && !kube::is_deleting(*object))
                others.emplace_back(&kind, kube::key_of(*object));
        });
    }
    return others;
}

async::Task<Result<void>> TenantSession::remove(Extra extra) {
    const auto& [kind, key] = extra;
    kube::DeleteOptions options;
    Result<Value> removed = co_await client_.remove(kind->resource, key, options);
    if (!removed.ok() && removed.error().code() != Code::kNotFound)
        co_return std::move(removed).error();
    written_.erase(kind->resource.plural + "/" + key.to_string());
    co_return Result<void>();
}

async::Task<Result<bool>> TenantSession::signs_tokens() {
    if (signed_ahead_) {
        signed_ahead_ = false;
        co_return true;
    }
    const TimePoint now = client_.loop().now();
    if (probe_token_id_.empty() || now - probe_token_made_at_ > kProbeTokenUse) {
        std::string id = random_text(client_.loop(), kTokenIdSize);
        kube::WriteOptions write_options;
        Result<Value> created = co_await client_.create(
            kube::resources::secrets(), build_probe_token(client_.loop(), id), write_options);
        if (!created.ok()) co_return std::move(created).error().context("create a token");
        probe_token_id_ = id;
        probe_token_made_at_ = now;
    }
    kube::ObjectKey key("kube-public", "cluster-info");
    kube::GetOptions options;
    Result<Value> info = co_await client_.get(kube::resources::config_maps(), key, options);
    if (!info.ok()) co_return std::move(info).error();
    if ((*info)["data"]["jws-kubeconfig-" + probe_token_id_].empty()) co_return false;
    kube::ObjectKey token_key("kube-system", std::string(kTokenPrefix) + probe_token_id_);
    kube::DeleteOptions delete_options;
    Result<Value> removed =
        co_await client_.remove(kube::resources::secrets(), token_key, delete_options);
    // One that stays is removed by the controller manager when it expires.
    if (!removed.ok()) log_debug("probe token", {{"error", removed.error().message()}});
    probe_token_id_.clear();
    co_return true;
}

async::Task<Result<std::string>> TenantSession::server_version() {
    kube::CallOptions options;
    Result<Value> version = co_await client_.request("GET", "/version", Value(), options);
    if (!version.ok()) co_return std::move(version).error();
    co_return (*version)["gitVersion"].str();
}

}  // namespace basalt::controlplane
