#include "controlplane/tenant_session.h"

#include <algorithm>

#include <fmt/format.h>

#include "controlplane/names.h"
#include "data/hash.h"
#include "data/json.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// A lease that was not renewed for this long has no holder (kube-controller-manager's own lease
// duration).
constexpr Duration kLeaseDuration = std::chrono::seconds(15);
constexpr Duration kTenantTimeout = std::chrono::seconds(15);

kube::ClientOptions client_options() {
    kube::ClientOptions options;
    options.host = "tenant";
    options.field_manager = std::string(names::kFieldManager);
    options.request_timeout = kTenantTimeout;
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

}  // namespace

TenantSession::TenantSession(async::Loop& loop, std::shared_ptr<net::HttpTransport> transport,
                             std::string identity, OnChange on_change)
    : identity_(std::move(identity)),
      client_(loop, std::move(transport), client_options()),
      on_change_(std::move(on_change)),
      group_(loop) {
    for (const TenantKind& kind : tenant_kinds()) {
        bool namespaced = std::string_view(kind.kind).rfind("Cluster", 0) != 0;
        kube::CacheOptions options(
            kube::Resource(kind.api_version, kind.plural, kind.kind, namespaced));
        options.label_selector = fmt::format("{}={}", kTenantLabel, kTenantLabelValue);
        options.metadata_only = true;
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
            if (!ours) on_change_();
        });
        kind.cache->start(group_);
    }
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
    Result<Value> applied = co_await client_.apply(kind.resource, std::move(intent), options);
    if (!applied.ok())
        co_return std::move(applied).error().context("apply " + id + " in the tenant's cluster");
    written_[id] = Written{intent_hash, revision_of(*applied, kind.resource)};
    // The watch may lag: what we wrote must not look like somebody's change meanwhile.
    if (watching_ && kind.cache->has_synced()) kind.cache->observe_write(*applied);
    co_return Result<void>();
}

async::Task<Result<void>> TenantSession::ensure(std::vector<Value> objects) {
    std::vector<std::string> wanted;
    std::vector<async::Task<Result<void>>> writes;
    for (Value& object : objects) {
        std::string id = id_of(kind_of(object).resource, object);
        wanted.push_back(id);
        if (!in_place(object, id)) writes.push_back(write(std::move(object), id));
    }
    Result<void> written = co_await async::join_all(client_.loop(), std::move(writes));
    if (!written.ok()) co_return std::move(written);
    if (!watching_) watch();
    Result<void> removed = co_await remove_others(std::move(wanted));
    co_return std::move(removed);
}

async::Task<Result<void>> TenantSession::remove_others(std::vector<std::string> wanted) {
    std::vector<std::pair<const Kind*, kube::ObjectKey>> extra;
    for (const Kind& kind : kinds_) {
        kind.cache->for_each([&](const data::SharedValue& object) {
            std::string id = id_of(kind.resource, *object);
            if (std::find(wanted.begin(), wanted.end(), id) == wanted.end() &&
                !kube::is_deleting(*object)) {
                extra.emplace_back(&kind, kube::key_of(*object));
            }
        });
    }
    for (const auto& [kind, key] : extra) {
        kube::DeleteOptions options;
        Result<Value> removed = co_await client_.remove(kind->resource, key, options);
        if (!removed.ok() && removed.error().code() != Code::kNotFound)
            co_return std::move(removed).error();
        written_.erase(kind->resource.plural + "/" + key.to_string());
    }
    co_return Result<void>();
}

async::Task<Result<bool>> TenantSession::controller_manager_leads() {
    kube::ObjectKey key("kube-system", "kube-controller-manager");
    kube::GetOptions options;
    Result<Value> lease = co_await client_.get(kube::resources::leases(), key, options);
    if (!lease.ok()) {
        if (lease.error().code() == Code::kNotFound) co_return false;
        co_return std::move(lease).error();
    }
    const Value& spec = (*lease)["spec"];
    auto renewed = parse_rfc3339(spec["renewTime"].as_string());
    bool fresh = renewed.ok() && client_.loop().wall_now() - *renewed < kLeaseDuration;
    co_return fresh && !spec["holderIdentity"].empty();
}

async::Task<Result<std::string>> TenantSession::server_version() {
    kube::CallOptions options;
    Result<Value> version = co_await client_.request("GET", "/version", Value(), options);
    if (!version.ok()) co_return std::move(version).error();
    co_return (*version)["gitVersion"].str();
}

}  // namespace basalt::controlplane
