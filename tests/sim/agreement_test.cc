// The model API server and a real kube-apiserver do the same: one script, two outcomes, compared
// after taking out what must differ (uids, versions, times, allocated addresses). Of managedFields,
// entries of applies are compared exactly; those of updates without the mark "." that says whether
// a map existed before.
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controlplane/write_permissions.h"
#include "data/json.h"
#include "data/patch.h"
#include "data/yaml.h"
#include "kube/watch.h"
#include "tests/integration/kube_server.h"
#include "tests/sim/agreement_scripts.h"
#include "tests/sim/connection.h"

namespace basalt::sim {
namespace {

using namespace std::chrono_literals;
namespace r = kube::resources;

const kube::Resource& resource_named(const std::string& plural) {
    for (const auto* kinds : {&built_in_kinds(), &custom_kinds()}) {
        for (const Kind& kind : *kinds) {
            if (kind.resource.plural == plural) return kind.resource;
        }
    }
    ADD_FAILURE() << "no resource " << plural;
    return r::config_maps();
}

Value without_marks(const Value& fields) {
    Value out = Value::object();
    for (const data::Member& member : fields.members()) {
        if (member.key() == ".") continue;
        out.set(member.key(), without_marks(member.value));
    }
    return out;
}

Value normalise_fields(const Value& entries) {
    std::map<std::string, Value> sorted;
    for (const Value& entry : entries.items()) {
        const std::string id =
            fmt::format("{} {} {}", entry["manager"].as_string(), entry["operation"].as_string(),
                        entry["subresource"].as_string());
        const bool is_apply = entry["operation"].as_string() == "Apply";
        sorted[id] = is_apply ? entry["fieldsV1"] : without_marks(entry["fieldsV1"]);
    }
    Value out = Value::object();
    for (auto& [id, fields] : sorted) out.set(id, std::move(fields));
    return out;
}

/// One side: a client, and how to make time pass.
struct Side {
    kube::Client* client = nullptr;
    std::string ns;
    std::function<void(const std::function<bool()>&)> until;
    async::Loop* loop = nullptr;
    std::map<std::string, std::string> versions;  ///< To see whether a step wrote.
    std::map<std::string, std::string> uids;
    bool brief = false;  ///< All that counts is what became of a step, not of the object.

    template <class T>
    async::Task<void> capture(async::Task<T> task, std::optional<T>* slot) {
        T result = co_await task;
        slot->emplace(std::move(result));
    }
    template <class T>
    T run(async::Task<T> task) {
        std::optional<T> slot;
        async::TaskGroup group(*loop);
        group.spawn(capture(std::move(task), &slot));
        until([&] { return group.size() == 0; });
        return std::move(*slot);
    }
};

Value normalise(Side& side, Value object, const std::string& id) {
    if (object["kind"].as_string() == "Status")
        return Value::object({{"status", object["status"]}});
    Value& metadata = object.at("metadata");
    const std::string version = metadata["resourceVersion"].str();
    const std::string uid = metadata["uid"].str();
    Value out = Value::object();
    out.set("written", side.versions[id] != version);
    out.set("same object", side.uids[id] == uid);
    side.versions[id] = version;
    side.uids[id] = uid;
    for (const char* name : {"resourceVersion", "uid", "creationTimestamp", "namespace"})
        metadata.erase(name);
    if (!metadata["deletionTimestamp"].is_null()) metadata.set("deletionTimestamp", "set");
    out.set("fields", normalise_fields(metadata["managedFields"]));
    metadata.erase("managedFields");
    Value& spec = object.at("spec");
    for (const char* name : {"clusterIP", "clusterIPs", "healthCheckNodePort"}) {
        if (!spec[name].empty()) spec.set(name, "set");
    }
    if (Value* ports = spec.find("ports");
        ports != nullptr && object["kind"].as_string() == "Service") {
        for (Value& port : ports->mutable_items()) {
            if (port["nodePort"].as_int() > 0) port.set("nodePort", "set");
        }
    }
    if (spec.is_null()) object.erase("spec");
    if (object["status"].empty()) object.erase("status");
    out.set("object", std::move(object));
    return out;
}

Result<Value> perform(Side& side, const Value& step, const kube::Resource& resource,
                      const ObjectKey& key) {
    kube::Client& client = *side.client;
    const std::string verb = step["do"].str();
    kube::WriteOptions write;
    write.field_manager = step["as"].empty() ? "tester" : step["as"].str();
    write.force = step["force"].as_bool(true);
    write.subresource = step["sub"].str();
    Value body = step["body"];
    auto named = [&] {
        Value object = kube::make_object(resource, key);
        return data::apply_merge_patch(std::move(object), body);
    };
    if (verb == "get") return side.run(client.get(resource, key));
    if (verb == "create") return side.run(client.create(resource, named(), write));
    if (verb == "apply") return side.run(client.apply(resource, named(), write));
    if (verb == "merge") return side.run(client.merge_patch(resource, key, body, write));
    if (verb == "json") return side.run(client.json_patch(resource, key, body, write));
    if (verb == "replace") {
        Result<Value> present = side.run(client.get(resource, key));
        if (!present.ok()) return present;
        return side.run(
            client.replace(resource, data::apply_merge_patch(*present, step["with"]), write));
    }
    kube::DeleteOptions options;
    options.uid = step["options"]["uid"].str();
    if (step["options"]["propagation"].as_string() == "Foreground")
        options.propagation = kube::Propagation::kForeground;
    return side.run(client.remove(resource, key, options));
}

Value outcome_of(Side& side, const Value& step) {
    const kube::Resource& resource = resource_named(step["of"].str());
    const std::string ns = step["ns"].empty() ? side.ns : step["ns"].str();
    const ObjectKey key(resource.namespaced ? ns : "", step["name"].str());
    if (step["do"].as_string() == "list") {
        kube::ListOptions options;
        options.label_selector = step["labels"].str();
        options.field_selector = step["fields"].str();
        options.page_size = step["page"].as_int(0);
        Result<kube::ObjectList> list = side.run(side.client->list(resource, side.ns, options));
        if (!list.ok()) return Value::object({{"error", code_name(list.error().code())}});
        Value names = Value::array();
        for (const Value& item : list->items) {
            if (kube::name_of(item) != "kube-root-ca.crt") names.push_back(kube::name_of(item));
        }
        return names;
    }
    Result<Value> answer = perform(side, step, resource, key);
    if (!answer.ok()) {
        return Value::object(
            {{"error", code_name(answer.error().code())}, {"reason", answer.error().reason()}});
    }
    if (side.brief) return "done";
    return normalise(side, std::move(*answer), step["of"].str() + "/" + key.name);
}

class AgreementTest : public integration::KubeTest {
 protected:
    void SetUp() override {
        KubeTest::SetUp();
        if (IsSkipped() || HasFatalFailure()) return;
        real.client = client.get();
        real.loop = loop.get();
        real.until = [this](const auto& done) { ASSERT_TRUE(wait_until(done, 1min)); };
        real.ns = make_namespace();
        std::vector<const Kind*> kinds;
        for (const auto* list : {&built_in_kinds(), &custom_kinds()}) {
            for (const Kind& kind : *list) kinds.push_back(&kind);
        }
        server_model = std::make_shared<ApiServer>(sim, "model", kinds);
        auto connection = std::make_shared<Connection>(
            sim, sim, chaos, "tester", std::make_shared<Link>(),
            [this]() -> Result<std::shared_ptr<ApiServer>> { return server_model; });
        model_client = std::make_unique<kube::Client>(sim, connection, kube::ClientOptions());
        model.client = model_client.get();
        model.loop = &sim;
        model.until = [this](const auto& done) { ASSERT_TRUE(sim.run_until(done, 1min)); };
        model.ns = "model-ns";
        (void)server_model->create(
            r::namespaces(), kube::make_object(r::namespaces(), ObjectKey(model.ns)), "tester");
        install_crds();
    }

    void install_crds() {
        static std::set<std::string> done;
        if (!done.insert(GetParam()).second) return;
        for (const char* plural : {"tenantcontrolplanes", "datastores", "kubeconfiggenerators"}) {
            const std::string path =
                fmt::format("{}/deploy/crds/kamaji.clastix.io_{}.yaml", BASALT_SOURCE_DIR, plural);
            std::ifstream file(path);
            std::stringstream text;
            text << file.rdbuf();
            Result<Value> applied = real.run(client->apply(r::custom_resource_definitions(),
                                                           data::parse_yaml(text.str()).value()));
            ASSERT_TRUE(applied.ok()) << applied.error().to_string();
            const kube::Resource& resource = resource_named(plural);
            ASSERT_TRUE(wait_until([&] { return real.run(client->list(resource)).ok(); }, 30s));
        }
    }

    void compare(const std::string& steps) {
        const Value script = data::parse_yaml(steps).value();
        int number = 0;
        for (const Value& step : script.items()) {
            ++number;
            const Value expected = outcome_of(real, step);
            const Value actual = outcome_of(model, step);
            EXPECT_EQ(
                data::to_pretty_json(data::parse_json(data::to_canonical_json(actual)).value()),
                data::to_pretty_json(data::parse_json(data::to_canonical_json(expected)).value()))
                << "step " << number << ": " << data::to_json(step);
        }
    }

    Side real, model;
    async::SimLoop sim{1};
    Chaos chaos{1};
    std::shared_ptr<ApiServer> server_model;
    std::unique_ptr<kube::Client> model_client;
};

TEST_P(AgreementTest, Scripts) {
    for (const AgreementScript& script : kAgreementScripts) {
        SCOPED_TRACE(script.name);
        real.ns = make_namespace();
        model.ns = fmt::format("ns-{}", script.name);
        (void)server_model->create(
            r::namespaces(), kube::make_object(r::namespaces(), ObjectKey(model.ns)), "tester");
        compare(script.steps);
    }
}

// ---- what writePermissions refuse
// ------------------------------------------------------------------------------------------------

class WriteLimitsAgreementTest : public AgreementTest {
 protected:
    void TearDown() override {
        if (client != nullptr) lift();
        AgreementTest::TearDown();
    }

    static std::string at_mode(const char* steps, const std::string& mode) {
        std::string text = steps;
        for (size_t at = 0; (at = text.find("MODE", at)) != std::string::npos;)
            text.replace(at, 4, mode);
        return text;
    }

    static std::vector<Value> policy_of(const controlplane::WritePermissions& blocked) {
        controlplane::Settings settings;
        settings.write_permissions = blocked;
        std::vector<Value> objects = controlplane::build_write_permissions(settings, Value());
        for (Value& object : objects) {
            for (const char* name : {"uid", "creationTimestamp"}) object.at("metadata").erase(name);
        }
        return objects;
    }

    /// What a write that changes nothing comes to; the server's informers need a moment.
    bool is_refused(const char* operation) {
        const Value probe = kube::make_object(r::config_maps(), ObjectKey(real.ns, "probe"));
        kube::WriteOptions dry;
        dry.dry_run = true;
        if (std::string_view(operation) == "CREATE") {
            const Value fresh = kube::make_object(r::config_maps(), ObjectKey(real.ns, "fresh"));
            return !run(client->create(r::config_maps(), fresh, dry)).ok();
        }
        if (std::string_view(operation) == "UPDATE") {
            return !run(client->merge_patch(r::config_maps(), kube::key_of(probe), probe, dry))
                        .ok();
        }
        kube::DeleteOptions options;
        options.dry_run = true;
        return !run(client->remove(r::config_maps(), kube::key_of(probe), options)).ok();
    }

    void limit(const controlplane::WritePermissions& blocked) {
        const Value probe = kube::make_object(r::config_maps(), ObjectKey(real.ns, "probe"));
        ASSERT_TRUE(run(client->create(r::config_maps(), probe)).ok());
        (void)server_model->create(
            r::config_maps(), kube::make_object(r::config_maps(), ObjectKey(model.ns, "probe")),
            "tester");
        const std::vector<Value> objects = policy_of(blocked);
        ASSERT_TRUE(run(client->create(r::validating_admission_policies(), objects[0])).ok());
        ASSERT_TRUE(
            run(client->create(r::validating_admission_policy_bindings(), objects[1])).ok());
        const char* operation = blocked.block_creation ? "CREATE"
                                : blocked.block_update ? "UPDATE"
                                                       : "DELETE";
        ASSERT_TRUE(wait_until([&] { return is_refused(operation); }, 30s));
        server_model->admit = [policy = objects[0]](const Admission& request) {
            return refusal(policy, request);
        };
    }

    void lift() {
        const ObjectKey name{std::string(controlplane::kLimitsName)};
        (void)run(client->remove(r::validating_admission_policy_bindings(), name));
        (void)run(client->remove(r::validating_admission_policies(), name));
        const auto is_free = [&] {
            const Value fresh = kube::make_object(r::config_maps(), ObjectKey("default", "fresh"));
            kube::WriteOptions dry;
            dry.dry_run = true;
            return run(client->create(r::config_maps(), fresh, dry)).ok();
        };
        EXPECT_TRUE(wait_until(is_free, 30s));
        if (server_model != nullptr) server_model->admit = nullptr;
    }
};

TEST_P(WriteLimitsAgreementTest, OfEachOperationAndOfAll) {
    for (const char* ns : {"kube-system", "kube-public"}) {
        (void)server_model->create(r::namespaces(),
                                   kube::make_object(r::namespaces(), ObjectKey(ns)), "tester");
        ASSERT_TRUE(
            wait_until([&] { return run(client->get(r::namespaces(), ObjectKey(ns))).ok(); }, 30s));
    }
    const std::pair<const char*, controlplane::WritePermissions> modes[] = {
        {"creation", {true, false, false}},
        {"update", {false, true, false}},
        {"deletion", {false, false, true}},
        {"all", {true, true, true}}};
    real.brief = model.brief = true;
    for (const auto& [mode, blocked] : modes) {
        SCOPED_TRACE(mode);
        real.ns = make_namespace();
        model.ns = fmt::format("limits-{}", mode);
        (void)server_model->create(
            r::namespaces(), kube::make_object(r::namespaces(), ObjectKey(model.ns)), "tester");
        compare(at_mode(kBeforeLimits, mode));
        ASSERT_NO_FATAL_FAILURE(limit(blocked));
        compare(at_mode(kUnderLimits, mode));
        lift();
    }
}

// ---- watches
// ----------------------------------------------------------------------------------------------------

struct WatchRecord {
    std::vector<std::string> events;
    std::string version;
};

/// Reads until `count` events came, or the initial events ended when `count` is 0.
async::Task<Result<void>> read_events(kube::Watch* watch, size_t count, WatchRecord* record) {
    while (count == 0 || record->events.size() < count) {
        Result<std::optional<kube::WatchEvent>> event = co_await watch->next();
        if (!event.ok()) co_return std::move(event).error();
        if (!event->has_value()) co_return Result<void>();
        const kube::WatchEvent& present = **event;
        record->version = kube::resource_version_of(present.object);
        if (kube::is_initial_events_end(present)) {
            record->events.emplace_back("initial events end");
            if (count == 0) co_return Result<void>();
            continue;
        }
        static const char* const kNames[] = {"added", "modified", "deleted", "bookmark"};
        if (present.type == kube::EventType::kBookmark) continue;
        record->events.push_back(fmt::format("{} {} {}", kNames[static_cast<int>(present.type)],
                                             kube::name_of(present.object),
                                             present.object["data"]["v"].as_string()));
    }
    co_return Result<void>();
}

Value config(const std::string& ns, const std::string& name, const std::string& team,
             const std::string& text) {
    Value object = kube::make_object(r::config_maps(), ObjectKey(ns, name));
    object.at("metadata").at("labels").set("team", team);
    object.at("data").set("v", text);
    return object;
}

std::vector<std::string> watch_story(Side& side, bool metadata_only) {
    kube::Client& client = *side.client;
    std::vector<std::string> told;
    auto tell = [&](const WatchRecord& record) {
        for (const std::string& event : record.events) told.push_back(event);
        told.emplace_back("--");
    };
    auto put = [&](const std::string& name, const std::string& team, const std::string& text) {
        EXPECT_TRUE(
            side.run(client.apply(r::config_maps(), config(side.ns, name, team, text))).ok());
    };
    put("a", "x", "1");
    put("b", "y", "1");
    kube::WatchOptions options;
    options.label_selector = "team=x";
    options.send_initial_events = true;
    options.metadata_only = metadata_only;
    Result<std::unique_ptr<kube::Watch>> first =
        side.run(client.watch(r::config_maps(), side.ns, options));
    EXPECT_TRUE(first.ok());
    if (!first.ok()) return told;
    WatchRecord initial;
    EXPECT_TRUE(side.run(read_events(first->get(), 0, &initial)).ok());
    tell(initial);
    put("a", "x", "2");
    put("b", "x", "2");  // Comes into the selection.
    put("a", "y", "3");  // Leaves it.
    put("b", "x", "2");  // No change.
    (void)side.run(client.remove(r::config_maps(), ObjectKey(side.ns, "b")));
    WatchRecord changes;
    EXPECT_TRUE(side.run(read_events(first->get(), 4, &changes)).ok());
    tell(changes);
    // Once more, from where the state was.
    kube::WatchOptions again;
    again.label_selector = "team=x";
    again.resource_version = initial.version;
    Result<std::unique_ptr<kube::Watch>> second =
        side.run(client.watch(r::config_maps(), side.ns, again));
    EXPECT_TRUE(second.ok());
    WatchRecord replay;
    if (second.ok()) {
        EXPECT_TRUE(side.run(read_events(second->get(), 4, &replay)).ok());
    }
    tell(replay);
    kube::WatchOptions limited;
    limited.timeout_seconds = 1;
    limited.resource_version = replay.version;
    Result<std::unique_ptr<kube::Watch>> third =
        side.run(client.watch(r::config_maps(), side.ns, limited));
    EXPECT_TRUE(third.ok());
    WatchRecord ended;
    if (third.ok()) {
        EXPECT_TRUE(side.run(read_events(third->get(), 1, &ended)).ok());
    }
    tell(ended);
    return told;
}

TEST_P(AgreementTest, Watches) {
    for (bool metadata_only : {false, true}) {
        real.ns = make_namespace();
        model.ns = metadata_only ? "watch-metadata" : "watch";
        (void)server_model->create(
            r::namespaces(), kube::make_object(r::namespaces(), ObjectKey(model.ns)), "tester");
        const std::vector<std::string> expected = watch_story(real, metadata_only);
        EXPECT_EQ(watch_story(model, metadata_only), expected);
        EXPECT_GE(expected.size(), 14U);
    }
}

INSTANTIATE_TEST_SUITE_P(Versions, AgreementTest, ::testing::Values("1.36.3"),
                         integration::version_name);
INSTANTIATE_TEST_SUITE_P(Versions, WriteLimitsAgreementTest, ::testing::Values("1.36.3"),
                         integration::version_name);

}  // namespace
}  // namespace basalt::sim
