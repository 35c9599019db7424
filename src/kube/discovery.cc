// Discovery: which resources a server has, and where requests for a kind go.
#include <fmt/format.h>

#include "data/json.h"
#include "kube/client.h"

namespace basalt::kube {
namespace {

/// How often a kind that is missing may cause a new discovery.
constexpr Duration kRefreshInterval = std::chrono::seconds(5);

constexpr const char* kAggregatedAccept =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

void add_aggregated(const Value& answer, std::vector<Discovery::Entry>& entries) {
    for (const Value& group : answer["items"].items()) {
        const std::string group_name = group["metadata"]["name"].str();
        for (const Value& version : group["versions"].items()) {
            for (const Value& item : version["resources"].items()) {
                const Value& kind = item["responseKind"];
                Discovery::Entry entry;
                entry.resource.group = group_name;
                entry.resource.version = version["version"].str();
                entry.resource.plural = item["resource"].str();
                entry.resource.kind = kind["kind"].str();
                entry.resource.namespaced = item["scope"].as_string() == "Namespaced";
                entry.singular = item["singularResource"].str();
                entry.short_names = item["shortNames"].as_string_list();
                entry.verbs = item["verbs"].as_string_list();
                for (const Value& sub : item["subresources"].items()) {
                    entry.subresources.push_back(sub["subresource"].str());
                }
                entries.push_back(std::move(entry));
            }
        }
    }
}

/// An APIResourceList, where "pods/status" is an item beside "pods".
void add_resource_list(const Value& answer, std::vector<Discovery::Entry>& entries) {
    const size_t first = entries.size();
    const auto [group, version] = split_api_version(answer["groupVersion"].as_string());
    for (const Value& item : answer["resources"].items()) {
        const std::string name = item["name"].str();
        if (const size_t slash = name.find('/'); slash != std::string::npos) {
            for (size_t i = first; i < entries.size(); ++i) {
                if (entries[i].resource.plural == name.substr(0, slash)) {
                    entries[i].subresources.push_back(name.substr(slash + 1));
                }
            }
            continue;
        }
        Discovery::Entry entry;
        entry.resource.group = group;
        entry.resource.version = version;
        entry.resource.plural = name;
        entry.resource.kind = item["kind"].str();
        entry.resource.namespaced = item["namespaced"].as_bool();
        entry.singular = item["singularName"].str();
        entry.short_names = item["shortNames"].as_string_list();
        entry.verbs = item["verbs"].as_string_list();
        entries.push_back(std::move(entry));
    }
}

}  // namespace

const Discovery::Entry* Discovery::find(const Gvk& gvk) const {
    for (const Entry& entry : entries_) {
        if (entry.resource.kind == gvk.kind && entry.resource.version == gvk.version &&
            entry.resource.group == gvk.group) {
            return &entry;
        }
    }
    return nullptr;
}

const Discovery::Entry* Discovery::find_name(std::string_view name) const {
    for (const Entry& entry : entries_) {
        const Resource& resource = entry.resource;
        if (name == resource.plural || name == entry.singular || name == resource.kind ||
            name == fmt::format("{}.{}", resource.plural, resource.group) ||
            name == resource.to_string()) {
            return &entry;
        }
        for (const std::string& short_name : entry.short_names) {
            if (name == short_name) return &entry;
        }
    }
    return nullptr;
}

async::Task<Result<std::shared_ptr<const Discovery>>> Client::discover() {
    std::vector<Discovery::Entry> entries;
    bool aggregated = true;
    for (const char* root : {"/api", "/apis"}) {
        net::HttpRequest request;
        request.target = root;
        request.headers.set("accept", kAggregatedAccept);
        Result<net::HttpResponse> response = co_await open(std::move(request));
        if (!response.ok()) co_return std::move(response).error();
        async::Task<Result<std::string>> reading =
            net::read_all(*response->body, options_.response_size_max);
        Result<std::string> body =
            co_await async::with_timeout(loop_, options_.request_timeout, std::move(reading));
        if (!body.ok()) co_return std::move(body).error();
        Result<Value> answer = data::parse_json(*body);
        if (!answer.ok()) co_return std::move(answer).error();
        if ((*answer)["kind"].as_string() != "APIGroupDiscoveryList") {
            aggregated = false;
            break;
        }
        add_aggregated(*answer, entries);
    }
    if (!aggregated) {
        Result<std::shared_ptr<const Discovery>> found = co_await discover_group_versions();
        co_return std::move(found);
    }
    discovery_ = std::make_shared<const Discovery>(std::move(entries));
    discovered_at_ = loop_.now();
    co_return discovery_;
}

async::Task<Result<std::shared_ptr<const Discovery>>> Client::discover_group_versions() {
    std::vector<std::string> paths{"/api/v1"};
    Result<Value> groups = co_await request("GET", "/apis");
    if (!groups.ok()) co_return std::move(groups).error();
    for (const Value& group : (*groups)["groups"].items()) {
        // The preferred version first.
        const std::string preferred = group["preferredVersion"]["groupVersion"].str();
        if (!preferred.empty()) paths.push_back("/apis/" + preferred);
        for (const Value& version : group["versions"].items()) {
            const std::string name = version["groupVersion"].str();
            if (name != preferred) paths.push_back("/apis/" + name);
        }
    }
    std::vector<Discovery::Entry> entries;
    for (const std::string& path : paths) {
        Result<Value> list = co_await request("GET", path);
        // An aggregated API that is down must not hide the others.
        if (!list.ok() && !is_transient(list.error()) && list.error().code() != Code::kNotFound) {
            co_return std::move(list).error();
        }
        if (list.ok()) add_resource_list(*list, entries);
    }
    discovery_ = std::make_shared<const Discovery>(std::move(entries));
    discovered_at_ = loop_.now();
    co_return discovery_;
}

async::Task<Result<Resource>> Client::find_resource(Gvk gvk) {
    if (discovery_) {
        if (const Discovery::Entry* entry = discovery_->find(gvk)) co_return entry->resource;
    }
    if (!discovery_ || loop_.now() - discovered_at_ >= kRefreshInterval) {
        Result<std::shared_ptr<const Discovery>> found = co_await discover();
        if (!found.ok()) co_return std::move(found).error();
        if (const Discovery::Entry* entry = (*found)->find(gvk)) co_return entry->resource;
    }
    co_return not_found(fmt::format("the server has no {}", gvk.to_string()));
}

async::Task<Result<Resource>> Client::resource_for(const Gvk& gvk) { return find_resource(gvk); }

}  // namespace basalt::kube
