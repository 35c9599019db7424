#include "kube/client.h"

#include <algorithm>

#include <fmt/format.h>

#include "data/json.h"
#include "kube/watch.h"

namespace basalt::kube {
namespace {

constexpr std::string_view kJson = "application/json";
/// A Status of an error; longer bodies are cut off unread.
constexpr size_t kMaxErrorSize = 1ULL << 20;
/// Without a word of the server; doubled for each try.
constexpr Duration kRetryDelay = std::chrono::milliseconds(200);

/// Builds the query of a URL.
class Query {
 public:
    Query& add(std::string_view name, std::string_view value) {
        if (value.empty()) return *this;
        text_ += text_.empty() ? '?' : '&';
        text_ += name;
        text_ += '=';
        text_ += net::percent_encode(value);
        return *this;
    }
    Query& add(std::string_view name, bool value) {
        return value ? add(name, std::string_view("true")) : *this;
    }
    Query& add(std::string_view name, int64_t value) {
        return value > 0 ? add(name, std::string_view(std::to_string(value))) : *this;
    }
    const std::string& str() const { return text_; }

 private:
    std::string text_;
};

std::string_view content_type_of(PatchType type) {
    switch (type) {
        case PatchType::kMerge: return "application/merge-patch+json";
        case PatchType::kJson: return "application/json-patch+json";
        case PatchType::kStrategic: return "application/strategic-merge-patch+json";
        case PatchType::kApply: return "application/apply-patch+yaml";
    }
    return kJson;
}

std::string_view propagation_name(Propagation propagation) {
    switch (propagation) {
        case Propagation::kDefault: return "";
        case Propagation::kBackground: return "Background";
        case Propagation::kForeground: return "Foreground";
        case Propagation::kOrphan: return "Orphan";
    }
    return "";
}

/// Members of lists lack apiVersion and kind, and metadata-only answers name a kind of their own.
void set_type(Value& object, const Resource& resource) {
    object.set("apiVersion", resource.api_version());
    object.set("kind", resource.kind);
}

Query write_query(const WriteOptions& options, const std::string& default_manager) {
    Query query;
    query.add("dryRun", std::string_view(options.dry_run ? "All" : ""));
    query.add("fieldManager",
              options.field_manager.empty() ? default_manager : options.field_manager);
    query.add("fieldValidation", options.field_validation);
    return query;
}

Value delete_body(const DeleteOptions& options) {
    Value body = Value::object({{"apiVersion", "v1"}, {"kind", "DeleteOptions"}});
    Value preconditions;
    if (!options.uid.empty()) preconditions.set("uid", options.uid);
    if (!options.resource_version.empty())
        preconditions.set("resourceVersion", options.resource_version);
    if (!preconditions.is_null()) body.set("preconditions", std::move(preconditions));
    if (options.propagation != Propagation::kDefault) {
        body.set("propagationPolicy", propagation_name(options.propagation));
    }
    if (options.grace_period_seconds) body.set("gracePeriodSeconds", *options.grace_period_seconds);
    if (options.dry_run) body.set("dryRun", Value::array({"All"}));
    return body;
}

}  // namespace

struct Client::Call {
    Call() = default;

    bool is_write() const { return method != "GET"; }
    /// "PATCH deployments.v1.apps a/b", for messages.
    std::string what() const {
        std::string text = method + " " + resource.plural;
        if (!subresource.empty()) text += "/" + subresource;
        if (!ns.empty() || !name.empty()) text += " " + ObjectKey(ns, name).to_string();
        return text;
    }

    std::string method;
    std::string target;
    std::string accept{kJson};
    std::string content_type;
    std::string body;
    Duration timeout{};
    Value* failure = nullptr;
    Resource resource;
    std::string ns;
    std::string name;
    std::string subresource;
    net::Headers headers;
    bool metadata_only = false;
};

std::string resource_path(const Resource& resource, std::string_view ns, std::string_view name,
                          std::string_view subresource) {
    std::string path =
        resource.group.empty() ? "/api/" : "/apis/" + net::percent_encode(resource.group) + "/";
    path += net::percent_encode(resource.version);
    if (resource.namespaced && !ns.empty()) path += "/namespaces/" + net::percent_encode(ns);
    path += "/" + net::percent_encode(resource.plural);
    if (!name.empty()) path += "/" + net::percent_encode(name);
    if (!subresource.empty()) {
        path += '/';
        path += subresource;  // May hold a path of its own: "proxy/metrics".
    }
    return path;
}

Client::Client(async::Loop& loop, std::shared_ptr<net::HttpTransport> transport, Options options)
    : loop_(loop),
      transport_(std::move(transport)),
      options_(std::move(options)),
      tokens_(options_.burst),
      tokens_at_(loop.now()) {}

Client::~Client() = default;

void Client::observe(const Call& call, int status, TimePoint since) const {
    if (options_.observer)
        options_.observer(call.method, options_.host, status, loop_.now() - since);
}

async::Task<Result<void>> Client::admit() {
    if (options_.qps <= 0) co_return Result<void>();
    const TimePoint now = loop_.now();
    const double elapsed = std::chrono::duration<double>(now - tokens_at_).count();
    tokens_ = std::min(options_.burst, tokens_ + elapsed * options_.qps) - 1;
    tokens_at_ = now;
    if (tokens_ >= 0) co_return Result<void>();
    const std::chrono::duration<double> wait(-tokens_ / options_.qps);
    Result<void> slept =
        co_await async::sleep_for(loop_, std::chrono::duration_cast<Duration>(wait));
    co_return std::move(slept);
}

async::Task<Result<net::HttpResponse>> Client::send_once(const Call* call) {
    net::HttpRequest request;
    request.method = call->method;
    request.target = call->target;
    request.headers = call->headers;
    request.headers.set("accept", call->accept);
    request.headers.set("user-agent", options_.user_agent);
    if (!call->content_type.empty()) request.headers.set("content-type", call->content_type);
    if (!options_.impersonate_user.empty()) {
        request.headers.set("impersonate-user", options_.impersonate_user);
        for (const std::string& group : options_.impersonate_groups)
            request.headers.add("impersonate-group", group);
    }
    request.body = call->body;
    if (call->is_write()) request.guard = options_.write_guard;
    const TimePoint started = loop_.now();
    Result<net::HttpResponse> response = co_await transport_->send(std::move(request));
    observe(*call, response.ok() ? response->status : 0, started);
    if (!response.ok() || response->status < 400) co_return std::move(response);

    Result<std::string> body = co_await net::read_all(*response->body, kMaxErrorSize);
    const std::string text = body.ok() ? std::move(*body) : std::string();
    if (call->failure != nullptr) {
        Result<Value> status = data::parse_json(text);
        if (status.ok()) *call->failure = std::move(*status);
    }
    co_return error_from_status(response->status, text, response->headers.get("retry-after"));
}

async::Task<Result<std::string>> Client::run_once(const Call* call) {
    Result<net::HttpResponse> response = co_await send_once(call);
    if (!response.ok()) co_return std::move(response).error();
    Result<std::string> body = co_await net::read_all(*response->body, options_.response_size_max);
    co_return std::move(body);
}

/// Waits for the next try, or returns the error when there is to be none.
async::Task<Result<void>> Client::wait_before_retry(const Call* call, int attempt, Error error) {
    if (attempt >= options_.retries_count_max) co_return std::move(error);
    const int status = error.cause_code();
    const bool is_answer = status >= 400 && status < 600;
    Duration delay = kRetryDelay * (1 << std::min(attempt, 6));
    if (is_answer) {
        const bool asked = error.retry_after().has_value();
        if (!asked && status != 429) co_return std::move(error);
        if (asked) delay = std::max(delay, Duration(*error.retry_after()));
        if (delay > options_.retry_after_max) co_return std::move(error);
    } else if (error.code() != Code::kUnavailable ||
               (error.reason() != "NotSent" && call->is_write())) {
        co_return std::move(error);
    }
    delay += delay * static_cast<int>(loop_.random() % 100) / 200;
    Result<void> slept = co_await async::sleep_for(loop_, delay);
    co_return std::move(slept);
}

async::Task<Result<std::string>> Client::run_attempts(Call call) {
    for (int attempt = 0;; ++attempt) {
        Result<void> admitted = co_await admit();
        if (!admitted.ok()) co_return std::move(admitted).error();
        if (call.is_write() && options_.write_guard) {
            Result<void> allowed = options_.write_guard();
            if (!allowed.ok()) co_return std::move(allowed).error();
        }
        Result<std::string> body = co_await run_once(&call);
        if (body.ok()) co_return std::move(body);
        Result<void> again = co_await wait_before_retry(&call, attempt, std::move(body).error());
        if (!again.ok()) co_return std::move(again).error();
    }
}

async::Task<Result<std::string>> Client::run(Call call) {
    std::string what = call.what();
    const Duration timeout = call.timeout;
    async::Task<Result<std::string>> attempts = run_attempts(std::move(call));
    Result<std::string> body = co_await async::with_timeout(loop_, timeout, std::move(attempts));
    co_return std::move(body).context(what);
}

async::Task<Result<Value>> Client::run_json(Call call) {
    std::string what = call.what();
    const bool retype = call.metadata_only;
    const Resource resource = call.resource;
    Result<std::string> body = co_await run(std::move(call));
    if (!body.ok()) co_return std::move(body).error();
    data::ParseOptions parse;
    parse.max_size = options_.response_size_max;
    Result<Value> value = data::parse_json(*body, parse);
    if (value.ok() && retype) set_type(*value, resource);
    co_return std::move(value).context(what);
}

async::Task<Result<net::HttpResponse>> Client::open_attempts(Call call) {
    for (int attempt = 0;; ++attempt) {
        Result<void> admitted = co_await admit();
        if (!admitted.ok()) co_return std::move(admitted).error();
        Result<net::HttpResponse> response = co_await send_once(&call);
        if (response.ok()) co_return std::move(response);
        Result<void> again =
            co_await wait_before_retry(&call, attempt, std::move(response).error());
        if (!again.ok()) co_return std::move(again).error();
    }
}

async::Task<Result<net::HttpResponse>> Client::open_call(Call call) {
    std::string what = call.what();
    const Duration timeout = call.timeout;
    async::Task<Result<net::HttpResponse>> attempts = open_attempts(std::move(call));
    Result<net::HttpResponse> response =
        co_await async::with_timeout(loop_, timeout, std::move(attempts));
    co_return std::move(response).context(what);
}

Client::Call Client::call_for(std::string method, const Resource& resource, const std::string& ns,
                              const std::string& name, const CallOptions& options) const {
    Call call;
    call.method = std::move(method);
    call.target = resource_path(resource, ns, name, options.subresource);
    call.timeout = options.timeout.value_or(options_.request_timeout);
    call.failure = options.failure;
    call.resource = resource;
    call.ns = ns;
    call.name = name;
    call.subresource = options.subresource;
    return call;
}

Client::Call Client::write_call(std::string method, const Resource& resource, const Value& object,
                                const WriteOptions& options, bool with_name) const {
    const ObjectKey key = key_of(object);
    Call call = call_for(std::move(method), resource, key.ns, with_name ? key.name : std::string(),
                         options);
    call.target += write_query(options, options_.field_manager).str();
    call.content_type = kJson;
    data::append_json(call.body, object);
    return call;
}

async::Task<Result<Value>> Client::get(const Resource& resource, const ObjectKey& key,
                                       const GetOptions& options) {
    Call call = call_for("GET", resource, key.ns, key.name, options);
    Query query;
    call.target += query.add("resourceVersion", options.resource_version).str();
    if (options.metadata_only) {
        call.accept =
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        call.metadata_only = true;
    }
    return run_json(std::move(call));
}

async::Task<Result<ObjectList>> Client::list_page(const Resource& resource, const std::string& ns,
                                                  const ListOptions& options,
                                                  const std::string& continue_token) {
    Call call = call_for("GET", resource, ns, {}, options);
    Query query;
    query.add("labelSelector", options.label_selector).add("fieldSelector", options.field_selector);
    query.add("limit", options.page_size);
    if (continue_token.empty()) {
        query.add("resourceVersion", options.resource_version);
        query.add("resourceVersionMatch", options.resource_version_match);
    } else {
        query.add("continue", continue_token);
    }
    call.target += query.str();
    if (options.metadata_only) {
        call.accept =
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    }
    return list_one(std::move(call));
}

async::Task<Result<ObjectList>> Client::list_one(Call call) {
    const Resource resource = call.resource;
    Result<Value> answer = co_await run_json(std::move(call));
    if (!answer.ok()) co_return std::move(answer).error();
    ObjectList list;
    list.resource_version = (*answer)["metadata"]["resourceVersion"].str();
    list.continue_token = (*answer)["metadata"]["continue"].str();
    if (Value* items = answer->find("items"); items != nullptr && items->is_array()) {
        list.items = std::move(items->mutable_items());
    }
    for (Value& item : list.items) set_type(item, resource);
    co_return std::move(list);
}

async::Task<Result<ObjectList>> Client::list(const Resource& resource, const std::string& ns,
                                             const ListOptions& options) {
    return list_all(resource, ns, options);
}

async::Task<Result<ObjectList>> Client::list_all(Resource resource, std::string ns,
                                                 ListOptions options) {
    ObjectList all;
    bool restarted = false;
    for (;;) {
        Result<ObjectList> page = co_await list_page(resource, ns, options, all.continue_token);
        if (!page.ok()) {
            const bool in_the_middle = !all.continue_token.empty();
            if (!in_the_middle || restarted || !is_expired(page.error()))
                co_return std::move(page).error();
            // The server compacted the version of the first page away: one request for everything
            // is left.
            restarted = true;
            options.page_size = 0;
            all = ObjectList();
            continue;
        }
        if (all.items.empty()) {
            all.items = std::move(page->items);
        } else {
            std::move(page->items.begin(), page->items.end(), std::back_inserter(all.items));
        }
        all.resource_version = std::move(page->resource_version);
        all.continue_token = std::move(page->continue_token);
        if (all.continue_token.empty()) co_return std::move(all);
    }
}

async::Task<Result<Value>> Client::create(const Resource& resource, Value object,
                                          const WriteOptions& options) {
    return run_json(write_call("POST", resource, object, options, !options.subresource.empty()));
}

async::Task<Result<Value>> Client::replace(const Resource& resource, Value object,
                                           const WriteOptions& options) {
    return run_json(write_call("PUT", resource, object, options, true));
}

async::Task<Result<Value>> Client::patch(const Resource& resource, const ObjectKey& key,
                                         PatchType type, const Value& body,
                                         const WriteOptions& options) {
    Call call = call_for("PATCH", resource, key.ns, key.name, options);
    Query query = write_query(options, options_.field_manager);
    if (type == PatchType::kApply) query.add("force", options.force);
    call.target += query.str();
    call.content_type = content_type_of(type);
    data::append_json(call.body, body);
    return run_json(std::move(call));
}

async::Task<Result<Value>> Client::merge_patch(const Resource& resource, const ObjectKey& key,
                                               const Value& body, const WriteOptions& options) {
    return patch(resource, key, PatchType::kMerge, body, options);
}

async::Task<Result<Value>> Client::json_patch(const Resource& resource, const ObjectKey& key,
                                              const Value& operations,
                                              const WriteOptions& options) {
    return patch(resource, key, PatchType::kJson, operations, options);
}

async::Task<Result<Value>> Client::apply(const Resource& resource, Value object,
                                         const WriteOptions& options) {
    if (Value* metadata = object.find("metadata")) metadata->erase("managedFields");
    return patch(resource, key_of(object), PatchType::kApply, object, options);
}

async::Task<Result<Value>> Client::remove(const Resource& resource, const ObjectKey& key,
                                          const DeleteOptions& options) {
    Call call = call_for("DELETE", resource, key.ns, key.name, options);
    call.content_type = kJson;
    data::append_json(call.body, delete_body(options));
    return run_json(std::move(call));
}

async::Task<Result<Value>> Client::remove_collection(const Resource& resource,
                                                     const std::string& ns,
                                                     const ListOptions& selector,
                                                     const DeleteOptions& options) {
    Call call = call_for("DELETE", resource, ns, {}, options);
    Query query;
    query.add("labelSelector", selector.label_selector)
        .add("fieldSelector", selector.field_selector);
    call.target += query.str();
    call.content_type = kJson;
    data::append_json(call.body, delete_body(options));
    return run_json(std::move(call));
}

async::Task<Result<Value>> Client::request(std::string method, std::string target,
                                           const Value& body, const CallOptions& options) {
    Call call = call_for(std::move(method), Resource(), {}, {}, options);
    call.target = std::move(target);
    call.resource.plural = call.target;
    if (!body.is_null()) {
        call.content_type = kJson;
        data::append_json(call.body, body);
    }
    return run_json(std::move(call));
}

async::Task<Result<std::string>> Client::request_text(std::string method, std::string target,
                                                      const CallOptions& options) {
    Call call = call_for(std::move(method), Resource(), {}, {}, options);
    call.target = std::move(target);
    call.resource.plural = call.target;
    call.accept = "*/*";
    return run(std::move(call));
}

async::Task<Result<net::HttpResponse>> Client::open(net::HttpRequest http_request,
                                                    const CallOptions& options) {
    Call call = call_for(http_request.method, Resource(), {}, {}, options);
    call.target = std::move(http_request.target);
    call.resource.plural = call.target;
    call.accept = http_request.headers.contains("accept")
                      ? std::string(http_request.headers.get("accept"))
                      : "*/*";
    call.headers = std::move(http_request.headers);
    call.body = std::move(http_request.body);
    return open_call(std::move(call));
}

async::Task<Result<std::unique_ptr<Watch>>> Client::watch(const Resource& resource,
                                                          const std::string& ns,
                                                          const WatchOptions& options) {
    Call call = call_for("GET", resource, ns, {}, options);
    Query query;
    query.add("watch", true).add("labelSelector", options.label_selector);
    query.add("fieldSelector", options.field_selector)
        .add("resourceVersion", options.resource_version);
    query.add("allowWatchBookmarks", options.bookmarks || options.send_initial_events);
    if (options.send_initial_events) {
        query.add("sendInitialEvents", true)
            .add("resourceVersionMatch", std::string_view("NotOlderThan"));
    }
    query.add("timeoutSeconds", options.timeout_seconds);
    call.target += query.str();
    if (options.metadata_only) {
        call.accept =
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
    }
    return watch_call(std::move(call));
}

async::Task<Result<std::unique_ptr<Watch>>> Client::watch_call(Call call) {
    Result<net::HttpResponse> response = co_await open_call(std::move(call));
    if (!response.ok()) co_return std::move(response).error();
    co_return std::make_unique<Watch>(std::move(response->body), options_.watch_event_size_max);
}

}  // namespace basalt::kube
