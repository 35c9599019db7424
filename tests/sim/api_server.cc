#include "tests/sim/api_server.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "data/hash.h"
#include "data/json.h"
#include "data/patch.h"
#include "data/pointer.h"
#include "tests/sim/managed_fields.h"

namespace basalt::sim {

namespace {

constexpr size_t kHistoryMax = 2000;

ApiServer::Answer failure(int code, std::string_view reason, std::string_view message) {
    return {code, make_status(code, reason, message), nullptr};
}

std::string collection_id(const std::string& group, const std::string& version,
                          const std::string& plural) {
    return group + "/" + version + "/" + plural;
}
std::string collection_id(const kube::Resource& resource) {
    return collection_id(resource.group, resource.version, resource.plural);
}

Value metadata_view(const Value& object) {
    return Value::object({{"kind", "PartialObjectMetadata"},
                          {"apiVersion", "meta.k8s.io/v1"},
                          {"metadata", object["metadata"]}});
}

std::map<std::string, std::string> parse_field_selector(const std::string& text) {
    std::map<std::string, std::string> fields;
    for (std::string_view part : split(text, ',')) {
        const size_t equals = part.find('=');
        if (equals == std::string_view::npos) continue;
        std::string_view value = part.substr(equals + 1);
        if (value.starts_with("=")) value.remove_prefix(1);
        fields[std::string(part.substr(0, equals))] = value;
    }
    return fields;
}

bool matches_fields(const std::map<std::string, std::string>& fields, const Value& object) {
    return std::all_of(fields.begin(), fields.end(), [&](const auto& field) {
        const Value* value = &object;
        for (std::string_view part : split(field.first, '.')) value = &(*value)[part];
        return value->as_string() == field.second;
    });
}

ApiServer::Answer missing(const Kind& kind, const ObjectKey& key) {
    return failure(404, "NotFound",
                   fmt::format("{} \"{}\" not found", kind.resource.plural, key.name));
}

/// The uid or the resource version that was asked for, if any was, is not that of `live`.
bool is_another(const Value& live, const Value& asked) {
    const std::string version = asked["resourceVersion"].str();
    const std::string uid = asked["uid"].str();
    return (!version.empty() && version != kube::resource_version_of(live)) ||
           (!uid.empty() && uid != kube::uid_of(live));
}

/// Addresses and ports of a Service. They follow from its name, so that two worlds with the same
/// Services have the same addresses.
void allocate(const ObjectKey& key, const Value* live, Value& object) {
    Value& spec = object.at("spec");
    const std::string type = spec["type"].str();
    const uint64_t hash = data::fnv1a(key.to_string());
    const Value& old = live == nullptr ? Value() : (*live)["spec"];
    if (type != "ExternalName" && spec["clusterIP"].empty()) {
        Value address = fmt::format("10.43.{}.{}", hash % 250, 1 + hash / 250 % 250);
        if (!old["clusterIP"].empty()) address = old["clusterIP"];
        spec.set("clusterIPs", Value::array({address}));
        spec.set("clusterIP", std::move(address));
    }
    const bool balanced =
        type == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"].as_bool(true);
    Value* ports = spec.find("ports");
    for (size_t i = 0; ports != nullptr && i < ports->size(); ++i) {
        Value& port = ports->mutable_items()[i];
        if (type == "ClusterIP") port.erase("nodePort");
        if ((type == "NodePort" || balanced) && port["nodePort"].as_int() == 0) {
            const uint64_t seed = hash + static_cast<uint64_t>(port["port"].as_int());
            port.set("nodePort", 30000 + static_cast<int64_t>(seed % 2700));
        }
    }
    if (type != "ClusterIP") return;
    for (const char* name :
         {"externalTrafficPolicy", "allocateLoadBalancerNodePorts", "healthCheckNodePort"}) {
        spec.erase(name);
    }
}

/// Where a path of a scale subresource leads (".spec.replicas").
std::string pointer_of(const Value& path) {
    std::string pointer = path.str();
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    return pointer;
}

}  // namespace

std::string ApiServer::Request::text(const std::string& parameter) const {
    auto found = query.find(parameter);
    return found == query.end() ? std::string() : found->second;
}

Value make_status(int code, std::string_view reason, std::string_view message) {
    return Value::object({{"kind", "Status"},
                          {"apiVersion", "v1"},
                          {"metadata", Value::object()},
                          {"status", code < 400 ? "Success" : "Failure"},
                          {"message", message},
                          {"reason", reason},
                          {"code", code}});
}

ApiServer::ApiServer(async::Loop& loop, std::string name, std::vector<const Kind*> kinds)
    : loop_(loop), name_(std::move(name)) {
    for (const Kind* kind : kinds) collections_[collection_id(kind->resource)].kind = kind;
}

ApiServer::~ApiServer() {
    for (auto& [id, collection] : collections_) {
        for (Watcher& watcher : collection.watchers) {
            if (watcher.timer != 0) loop_.cancel_timer(watcher.timer);
        }
    }
}

std::vector<const Kind*> ApiServer::kinds() const {
    std::vector<const Kind*> found;
    for (const auto& [id, collection] : collections_) found.push_back(collection.kind);
    return found;
}

ApiServer::Collection* ApiServer::find(const kube::Resource& resource) {
    auto found = collections_.find(collection_id(resource));
    return found == collections_.end() ? nullptr : &found->second;
}
const ApiServer::Collection* ApiServer::find(const kube::Resource& resource) const {
    return const_cast<ApiServer*>(this)->find(resource);
}
const Kind* ApiServer::kind_of(const kube::Resource& resource) const {
    const Collection* collection = find(resource);
    return collection == nullptr ? nullptr : collection->kind;
}

// ---- requests
// ---------------------------------------------------------------------------------------------------

ApiServer::Answer ApiServer::handle(const net::HttpRequest& request, const std::string& who) {
    ++requests_count_;
    Request parsed;
    parsed.method = request.method;
    parsed.who = who;
    const size_t mark = request.target.find('?');
    for (std::string_view part : split(std::string_view(request.target).substr(1, mark - 1), '/')) {
        parsed.path.push_back(net::percent_decode(part, false).value_or(""));
    }
    if (mark != std::string::npos) {
        for (std::string_view pair :
             split(std::string_view(request.target).substr(mark + 1), '&')) {
            const size_t equals = std::min(pair.find('='), pair.size());
            const std::string_view value = pair.substr(std::min(equals + 1, pair.size()));
            parsed.query[std::string(pair.substr(0, equals))] =
                net::percent_decode(value, true).value_or("");
        }
    }
    parsed.content_type = request.headers.get("content-type");
    parsed.metadata_only =
        request.headers.get("accept").find("PartialObjectMetadata") != std::string_view::npos;
    parsed.manager = parsed.text("fieldManager");
    if (parsed.manager.empty()) parsed.manager = request.headers.get("user-agent");
    if (!request.body.empty()) {
        Result<Value> body = data::parse_json(request.body);
        if (!body.ok()) return failure(400, "BadRequest", body.error().message());
        parsed.body = std::move(*body);
    }
    return route(parsed);
}

ApiServer::Answer ApiServer::route(Request& request) {
    const std::vector<std::string>& path = request.path;
    if (path.size() == 1 && path[0] == "version") {
        return {200, Value::object({{"gitVersion", version}}), nullptr};
    }
    const bool core = path[0] == "api";
    const size_t base = core ? 2 : 3;
    if (path.size() <= base)
        return failure(404, "NotFound", "the server could not find the requested resource");
    size_t at = base;
    const bool in_namespace = path[at] == "namespaces" && path.size() > at + 2 &&
                              path[at + 2] != "status" && path[at + 2] != "finalize";
    if (in_namespace) {
        request.key.ns = path[at + 1];
        at += 2;
    }
    auto found = collections_.find(collection_id(core ? "" : path[1], path[base - 1], path[at]));
    if (found == collections_.end()) {
        return failure(404, "NotFound", "the server could not find the requested resource");
    }
    request.collection = &found->second;
    if (path.size() > at + 1) request.key.name = path[at + 1];
    if (path.size() > at + 2) request.subresource = path[at + 2];
    const Kind& kind = *request.collection->kind;
    if (request.subresource == "scale") return scale(request);
    if (!request.subresource.empty() && (request.subresource != "status" || !kind.has_status)) {
        return failure(404, "NotFound", "the server could not find the requested resource");
    }
    const bool one = !request.key.name.empty();
    if (request.method == "GET") {
        if (one) return get_one(request);
        return request.text("watch") == "true" || request.text("watch") == "1" ? open_watch(request)
                                                                               : list_many(request);
    }
    if (request.method == "POST" && !one) return create_one(request);
    if (request.method == "DELETE") return one ? delete_one(request) : delete_many(request);
    if (!one)
        return failure(405, "MethodNotAllowed",
                       "the server does not allow this method on the requested resource");
    if (request.content_type == "application/apply-patch+yaml") return apply_one(request);
    return update_one(request);
}

ApiServer::Answer ApiServer::get_one(const Request& request) {
    auto found = request.collection->objects.find(request.key);
    const Kind& kind = *request.collection->kind;
    if (found == request.collection->objects.end()) {
        return missing(kind, request.key);
    }
    const Value& object = *found->second;
    return {200, request.metadata_only ? metadata_view(object) : object, nullptr};
}

ApiServer::Answer ApiServer::list_many(const Request& request) {
    const Collection& collection = *request.collection;
    Page page;
    page.version = version_;
    if (const std::string token = request.text("continue"); !token.empty()) {
        auto found = pages_.find(token);
        if (found == pages_.end()) {
            return failure(
                410, "Expired",
                "The provided continue parameter is too old to display a consistent list");
        }
        page = std::move(found->second);
        pages_.erase(found);
    } else {
        const std::optional<uint64_t> wanted =
            parse_number<uint64_t>(request.text("resourceVersion"));
        if (wanted && *wanted > version_) {
            Answer late = failure(504, "Timeout", "Too large resource version");
            return late;
        }
        Result<kube::LabelSelector> labels =
            kube::LabelSelector::parse(request.text("labelSelector"));
        if (!labels.ok()) return failure(400, "BadRequest", labels.error().message());
        const auto fields = parse_field_selector(request.text("fieldSelector"));
        for (const auto& [key, object] : collection.objects) {
            if (!request.key.ns.empty() && key.ns != request.key.ns) continue;
            if (labels->matches(*object) && matches_fields(fields, *object))
                page.rest.push_back(object);
        }
    }
    const size_t limit =
        static_cast<size_t>(parse_number<int64_t>(request.text("limit")).value_or(0));
    const size_t count = limit == 0 ? page.rest.size() : std::min(limit, page.rest.size());
    Value items = Value::array();
    for (size_t i = 0; i < count; ++i) {
        items.push_back(request.metadata_only ? metadata_view(*page.rest[i]) : *page.rest[i]);
    }
    Value metadata = Value::object({{"resourceVersion", std::to_string(page.version)}});
    if (count < page.rest.size()) {
        const std::string token = fmt::format("page-{}", ++tokens_);
        metadata.set("continue", token);
        page.rest.erase(page.rest.begin(), page.rest.begin() + static_cast<std::ptrdiff_t>(count));
        pages_[token] = std::move(page);
    }
    const kube::Resource& resource = collection.kind->resource;
    return {200,
            Value::object({{"kind", resource.kind + "List"},
                           {"apiVersion", resource.api_version()},
                           {"metadata", std::move(metadata)},
                           {"items", std::move(items)}}),
            nullptr};
}

// ---- writes
// -----------------------------------------------------------------------------------------------------

std::optional<ApiServer::Answer> ApiServer::refuse_namespace(const Request& request) const {
    if (!request.collection->kind->resource.namespaced) return std::nullopt;
    SharedValue ns = get(kube::resources::namespaces(), ObjectKey(request.key.ns));
    if (ns == nullptr)
        return failure(404, "NotFound", fmt::format("namespaces \"{}\" not found", request.key.ns));
    if (kube::is_deleting(*ns)) {
        return failure(
            403, "Forbidden",
            fmt::format(
                "unable to create new content in namespace {} because it is being terminated",
                request.key.ns));
    }
    return std::nullopt;
}

std::optional<ApiServer::Answer> ApiServer::refuse(const Request& request, const char* operation,
                                                   const Value* object, const Value* before) const {
    if (!admit) return std::nullopt;
    const std::string why = admit({operation, &request.collection->kind->resource, request.key,
                                   request.subresource, object, before});
    if (why.empty()) return std::nullopt;
    return failure(403, "Forbidden", why);
}

Value ApiServer::stamped(const Kind& kind, Value object) {
    Value& metadata = object.at("metadata");
    metadata.set("uid",
                 fmt::format("{:08x}-0000-4000-8000-{:012x}",
                             static_cast<uint32_t>(std::hash<std::string>()(name_)), ++uids_));
    metadata.set("creationTimestamp", format_rfc3339(loop_.wall_now()));
    if (kind.has_generation) metadata.set("generation", 1);
    return object;
}

void ApiServer::finish_defaults(const Kind& kind, const ObjectKey& key, const Value* live,
                                Value& object) const {
    if (kind.custom) prune_unknown(*kind.shape, object);
    apply_defaults(kind, object);
    object.set("apiVersion", kind.resource.api_version()).set("kind", kind.resource.kind);
    if (kind.resource.kind == "Service") {
        allocate(key, live, object);
        Value& status = object.at("status");
        if (!status["loadBalancer"].is_object()) status.set("loadBalancer", Value::object());
    }
    if (live == nullptr) return;
    Value& metadata = object.at("metadata");
    for (const char* name :
         {"uid", "creationTimestamp", "generation", "deletionTimestamp",
          "deletionGracePeriodSeconds", "name", "namespace", "resourceVersion"}) {
        const Value& old = (*live)["metadata"][name];
        if (old.is_null()) {
            metadata.erase(name);
        } else {
            metadata.set(name, old);
        }
    }
}

ApiServer::Answer ApiServer::create_one(const Request& request) {
    Request named = request;
    named.key.name = request.body["metadata"]["name"].str();
    if (named.key.name.empty() && !request.body["metadata"]["generateName"].empty()) {
        named.key.name =
            request.body["metadata"]["generateName"].str() + fmt::format("{:05}", ++tokens_);
    }
    if (named.key.name.empty()) return failure(422, "Invalid", "metadata.name: Required value");
    if (auto refused = refuse_namespace(named)) return *refused;
    if (auto refused = refuse(named, "CREATE", &request.body, nullptr)) return *refused;
    if (request.collection->objects.contains(named.key)) {
        return failure(409, "AlreadyExists",
                       fmt::format("{} \"{}\" already exists",
                                   request.collection->kind->resource.plural, named.key.name));
    }
    Value object = request.body;
    object.at("metadata").erase("managedFields");
    const Kind& kind = *request.collection->kind;
    finish_defaults(kind, named.key, nullptr, object);
    if (kind.has_status && kind.custom) object.erase("status");
    track_update(kind, Value(), object,
                 {request.manager, false, "", kind.resource.api_version(),
                  format_rfc3339(loop_.wall_now())});
    return insert(named, std::move(object));
}

ApiServer::Answer ApiServer::insert(const Request& request, Value object) {
    const Kind& kind = *request.collection->kind;
    Value& metadata = object.at("metadata");
    metadata.set("name", request.key.name);
    if (kind.resource.namespaced) metadata.set("namespace", request.key.ns);
    for (const char* name : {"deletionTimestamp", "uid", "resourceVersion"}) metadata.erase(name);
    Value fresh = stamped(kind, std::move(object));
    if (kind.resource.kind == "Namespace") {
        fresh.at("spec").set("finalizers", Value::array({"kubernetes"}));
        fresh.at("status").set("phase", "Active");
    }
    if (request.text("dryRun").empty()) {
        commit(*request.collection, request.key, std::move(fresh), request);
        return {201, *request.collection->objects.at(request.key), nullptr};
    }
    return {201, std::move(fresh), nullptr};
}

ApiServer::Answer ApiServer::update_one(const Request& request) {
    const Kind& kind = *request.collection->kind;
    auto found = request.collection->objects.find(request.key);
    if (found == request.collection->objects.end()) {
        return missing(kind, request.key);
    }
    const SharedValue live = found->second;
    Value wanted;
    if (request.method == "PUT") {
        wanted = request.body;
    } else if (request.content_type == "application/json-patch+json") {
        Result<Value> patched = data::apply_json_patch(*live, request.body);
        if (!patched.ok()) return failure(422, "Invalid", patched.error().message());
        wanted = std::move(*patched);
    } else {
        wanted = data::apply_merge_patch(*live, request.body);
    }
    const Value& metadata = wanted["metadata"];
    if (is_another(*live, metadata)) {
        return failure(
            409, "Conflict",
            fmt::format(
                "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please "
                "apply your changes to the latest version and try again",
                kind.resource.plural, request.key.name));
    }
    // A client that does not know about ownership sends none.
    if (metadata["managedFields"].is_null()) {
        wanted.at("metadata").set("managedFields", (*live)["metadata"]["managedFields"]);
    }
    return store(request, live, std::move(wanted), false);
}

ApiServer::Answer ApiServer::apply_one(const Request& request) {
    const Kind& kind = *request.collection->kind;
    const Manager manager{request.manager, true, request.subresource, kind.resource.api_version(),
                          format_rfc3339(loop_.wall_now())};
    auto found = request.collection->objects.find(request.key);
    const bool force = request.text("force") == "true";
    if (!request.body["metadata"]["managedFields"].is_null()) {
        return failure(400, "BadRequest", "metadata.managedFields must be nil");
    }
    if (kind.custom) {
        // Other writes lose it silently; an apply of it fails, as an error of the server.
        const std::string unknown = undeclared_field(*kind.shape, request.body);
        if (!unknown.empty()) {
            return failure(500, "",
                           fmt::format("failed to create typed patch object: {}: field not "
                                       "declared in schema",
                                       unknown));
        }
    }
    if (found == request.collection->objects.end()) {
        if (!request.subresource.empty()) {
            return missing(kind, request.key);
        }
        if (auto refused = refuse_namespace(request)) return *refused;
        if (!request.body["metadata"]["uid"].empty()) {
            return failure(
                409, "Conflict",
                "uid mismatch: the provided object specified a uid, and no object exists");
        }
        Value base = Value::object({{"metadata", Value::object()}});
        AppliedResult applied = apply_configuration(kind, base, request.body, manager, force);
        if (auto refused = refuse(request, "CREATE", &applied.object, nullptr)) return *refused;
        finish_defaults(kind, request.key, nullptr, applied.object);
        return insert(request, std::move(applied.object));
    }
    const SharedValue live = found->second;
    if (is_another(*live, request.body["metadata"])) {
        return failure(409, "Conflict", "the object has been modified");
    }
    AppliedResult applied = apply_configuration(kind, *live, request.body, manager, force);
    if (!applied.conflict.empty()) {
        return failure(409, "Conflict", "Apply failed with conflicts: " + applied.conflict);
    }
    return store(request, live, std::move(applied.object), true);
}

/// What an update must not change.
std::string immutable_change(const Kind& kind, const Value& live, const Value& wanted) {
    const std::string& name = kind.resource.kind;
    if (kind.custom) return "";
    const bool workload = name == "Deployment" || name == "ReplicaSet" || name == "DaemonSet";
    if (workload && !(live["spec"]["selector"] == wanted["spec"]["selector"])) {
        return "spec.selector: Invalid value: field is immutable";
    }
    if (name == "Secret" && !(live["type"] == wanted["type"]))
        return "type: Invalid value: field is immutable";
    if (name.ends_with("RoleBinding") && !(live["roleRef"] == wanted["roleRef"])) {
        return "roleRef: Invalid value: cannot change roleRef";
    }
    return "";
}

ApiServer::Answer ApiServer::store(const Request& request, SharedValue live, Value wanted,
                                   bool is_apply) {
    const Kind& kind = *request.collection->kind;
    const bool is_status = request.subresource == "status";
    finish_defaults(kind, request.key, live.get(), wanted);
    if (is_status) {
        Value object = *live;
        object.at("metadata").set("managedFields", wanted["metadata"]["managedFields"]);
        if (wanted["status"].is_null()) {
            object.erase("status");
        } else {
            object.set("status", wanted["status"]);
        }
        wanted = std::move(object);
    } else if (kind.has_status) {
        if ((*live)["status"].is_null()) {
            wanted.erase("status");
        } else {
            wanted.set("status", (*live)["status"]);
        }
    }
    if (std::string fault = immutable_change(kind, *live, wanted); !fault.empty()) {
        return failure(
            422, "Invalid",
            fmt::format("{} \"{}\" is invalid: {}", kind.resource.kind, request.key.name, fault));
    }
    if (kube::is_deleting(*live)) {
        for (const Value& finalizer : wanted["metadata"]["finalizers"].items()) {
            if (!kube::has_finalizer(*live, finalizer.as_string())) {
                return failure(
                    422, "Invalid",
                    "metadata.finalizers: no new finalizers can be added if the object is "
                    "being deleted");
            }
        }
    }
    if (auto refused = refuse(request, "UPDATE", &wanted, live.get())) return *refused;
    if (!is_apply) {
        track_update(kind, *live, wanted,
                     {request.manager, false, request.subresource, kind.resource.api_version(),
                      format_rfc3339(loop_.wall_now())});
    }
    if (kind.has_generation && !is_status) {
        Value a = *live;
        Value b = wanted;
        for (Value* side : {&a, &b}) {
            side->erase("metadata");
            side->erase("status");
        }
        if (!(a == b)) wanted.at("metadata").set("generation", kube::generation_of(*live) + 1);
    }
    if (same_state(*live, wanted)) return {200, *live, nullptr};
    if (!request.text("dryRun").empty()) return {200, std::move(wanted), nullptr};
    if (kube::is_deleting(*live) && wanted["metadata"]["finalizers"].size() == 0 &&
        kind.resource.kind != "Pod" && kind.resource.kind != "Namespace") {
        drop(*request.collection, request.key, request);
        return {200, std::move(wanted), nullptr};
    }
    commit(*request.collection, request.key, std::move(wanted), request);
    return {200, *request.collection->objects.at(request.key), nullptr};
}

ApiServer::Answer ApiServer::scale(const Request& request) {
    const Kind& kind = *request.collection->kind;
    auto found = request.collection->objects.find(request.key);
    if (found == request.collection->objects.end()) return failure(404, "NotFound", "not found");
    std::string spec_path = "/spec/replicas";
    std::string status_path = "/status/replicas";
    if (!kind.scale.is_null()) {
        spec_path = pointer_of(kind.scale["specReplicasPath"]);
        status_path = pointer_of(kind.scale["statusReplicasPath"]);
    } else if (kind.resource.kind != "Deployment") {
        return failure(404, "NotFound", "the server could not find the requested resource");
    }
    Request inner = request;
    inner.subresource = "";
    if (request.method != "GET") {
        const Value& replicas = request.body["spec"]["replicas"];
        inner.method = "PATCH";
        inner.content_type = "application/merge-patch+json";
        Value patch = Value::object();
        Result<void> set = data::pointer_set(patch, spec_path, replicas);
        if (!set.ok() || !replicas.is_int())
            return failure(422, "Invalid", "spec.replicas: Required value");
        inner.body = std::move(patch);
        Answer answer = update_one(inner);
        if (answer.status >= 400) return answer;
    }
    const Value& object = *request.collection->objects.at(request.key);
    Value scale = Value::object({{"kind", "Scale"}, {"apiVersion", "autoscaling/v1"}});
    Value metadata = Value::object();
    for (const char* name : {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}) {
        metadata.set(name, object["metadata"][name]);
    }
    scale.set("metadata", std::move(metadata));
    scale.set("spec", Value::object(
                          {{"replicas", data::pointer_get(object, spec_path).value_or(Value(0))}}));
    scale.set(
        "status",
        Value::object({{"replicas", data::pointer_get(object, status_path).value_or(Value(0))}}));
    return {200, std::move(scale), nullptr};
}

// ---- deletion
// ---------------------------------------------------------------------------------------------------

ApiServer::Answer ApiServer::delete_one(const Request& request) {
    const Kind& kind = *request.collection->kind;
    auto found = request.collection->objects.find(request.key);
    if (found == request.collection->objects.end()) {
        return missing(kind, request.key);
    }
    const SharedValue live = found->second;
    if (is_another(*live, request.body["preconditions"])) {
        return failure(409, "Conflict", "Precondition failed: the object is another one");
    }
    if (auto refused = refuse(request, "DELETE", nullptr, live.get())) return *refused;
    const std::string policy = request.body["propagationPolicy"].str();
    Value object = *live;
    if (policy == "Foreground") kube::insert_finalizer(object, "foregroundDeletion");
    if (policy == "Orphan") kube::insert_finalizer(object, "orphan");
    const bool held =
        object["metadata"]["finalizers"].size() > 0 || kind.resource.kind == "Namespace" ||
        (kind.resource.kind == "Pod" && request.body["gracePeriodSeconds"].as_int(30) > 0 &&
         !object["spec"]["nodeName"].empty());
    if (!held) {
        drop(*request.collection, request.key, request);
        Value done = make_status(200, "", "");
        done.set("details",
                 Value::object({{"name", request.key.name}, {"uid", kube::uid_of(*live)}}));
        return {200, std::move(done), nullptr};
    }
    if (kube::is_deleting(*live) && object == *live) return {200, *live, nullptr};
    if (!kube::is_deleting(*live)) {
        Value& metadata = object.at("metadata");
        metadata.set("deletionTimestamp", format_rfc3339(loop_.wall_now()));
        metadata.set("deletionGracePeriodSeconds",
                     kind.resource.kind == "Pod"
                         ? object["spec"]["terminationGracePeriodSeconds"].as_int(30)
                         : 0);
        if (kind.has_generation) metadata.set("generation", kube::generation_of(*live) + 1);
        if (kind.resource.kind == "Namespace") object.at("status").set("phase", "Terminating");
    }
    commit(*request.collection, request.key, std::move(object), request);
    return {200, *request.collection->objects.at(request.key), nullptr};
}

ApiServer::Answer ApiServer::delete_many(const Request& request) {
    Request listing = request;
    listing.metadata_only = false;
    Answer all = list_many(listing);
    if (all.status >= 400) return all;
    for (const Value& object : all.body["items"].items()) {
        Request one = request;
        one.key = kube::key_of(object);
        Answer answer = delete_one(one);
        if (answer.status == 403) return answer;
    }
    return all;
}

void ApiServer::commit(Collection& collection, const ObjectKey& key, Value object,
                       const Request& request) {
    SharedValue& slot = collection.objects[key];
    SharedValue before = slot;
    object.at("metadata").set("resourceVersion", std::to_string(++version_));
    slot = std::make_shared<const Value>(std::move(object));
    publish(collection, key, std::move(before), slot, request);
}

void ApiServer::drop(Collection& collection, const ObjectKey& key, const Request& request) {
    auto node = collection.objects.extract(key);
    Value last = *node.mapped();
    last.at("metadata").set("resourceVersion", std::to_string(++version_));
    publish(collection, key, std::make_shared<const Value>(std::move(last)), nullptr, request);
}

void ApiServer::publish(Collection& collection, const ObjectKey& key, SharedValue before,
                        SharedValue after, const Request& request) {
    collection.history.push_back({version_, before, after});
    if (collection.history.size() > kHistoryMax) {
        collection.compacted = collection.history.front().version;
        collection.history.pop_front();
    }
    forget_streams(collection);
    for (Watcher& watcher : collection.watchers)
        deliver(watcher, collection, collection.history.back());
    if (!on_write) return;
    Write write{request.who,       collection.kind,  key,
                std::move(before), std::move(after), request.method};
    on_write(write);
}

// ---- in this process
// --------------------------------------------------------------------------------------------

SharedValue ApiServer::get(const kube::Resource& resource, const ObjectKey& key) const {
    const Collection* collection = find(resource);
    if (collection == nullptr) return nullptr;
    auto found = collection->objects.find(key);
    return found == collection->objects.end() ? nullptr : found->second;
}

std::vector<SharedValue> ApiServer::list(const kube::Resource& resource,
                                         const std::string& ns) const {
    std::vector<SharedValue> found;
    const Collection* collection = find(resource);
    if (collection == nullptr) return found;
    for (const auto& [key, object] : collection->objects) {
        if (ns.empty() || key.ns == ns) found.push_back(object);
    }
    return found;
}

ApiServer::Request ApiServer::internal(std::string method, const kube::Resource& resource,
                                       const ObjectKey& key, const std::string& who) {
    Request request;
    request.method = std::move(method);
    request.collection = find(resource);
    request.key = key;
    request.who = who;
    request.manager = who;
    return request;
}

namespace {

Result<Value> result_of(ApiServer::Answer answer) {
    if (answer.status < 400) return std::move(answer.body);
    return Error(Code::kUnknown, answer.body["message"].str())
        .with_cause(answer.status, answer.body["reason"].str());
}

}  // namespace

Result<Value> ApiServer::create(const kube::Resource& resource, const Value& object,
                                const std::string& who) {
    Request request = internal("POST", resource, kube::key_of(object), who);
    request.body = object;
    return result_of(create_one(request));
}

Result<Value> ApiServer::patch(const kube::Resource& resource, const ObjectKey& key,
                               const Value& merge_patch, const std::string& who,
                               const std::string& subresource) {
    Request request = internal("PATCH", resource, key, who);
    request.body = merge_patch;
    request.subresource = subresource;
    return result_of(update_one(request));
}

Result<Value> ApiServer::remove(const kube::Resource& resource, const ObjectKey& key,
                                const std::string& who, const Value& options) {
    Request request = internal("DELETE", resource, key, who);
    request.body = options;
    return result_of(delete_one(request));
}

void ApiServer::erase(const kube::Resource& resource, const ObjectKey& key,
                      const std::string& who) {
    Collection* collection = find(resource);
    if (collection == nullptr || !collection->objects.contains(key)) return;
    drop(*collection, key, internal("DELETE", resource, key, who));
}

}  // namespace basalt::sim
