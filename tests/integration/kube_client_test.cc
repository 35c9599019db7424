#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "async/subprocess.h"
#include "controller/apply.h"
#include "data/json.h"
#include "kube/cache.h"
#include "tests/integration/kube_server.h"

namespace basalt::integration {
namespace {

using namespace std::chrono_literals;
using kube::ObjectKey;
using kube::Value;
namespace resources = kube::resources;

class KubeClientTest : public KubeTest {
 protected:
    Value config_map(const std::string& ns, const std::string& name, const std::string& value) {
        Value object = kube::make_object(resources::config_maps(), ObjectKey(ns, name));
        object.set("data", Value::object({{"value", value}}));
        return object;
    }
    async::Task<Result<void>> create_many(std::string ns, int first, int last, size_t padding) {
        for (int i = first; i < last; ++i) {
            Value object = config_map(ns, fmt::format("c{:05}", i), std::string(padding, 'x'));
            Result<Value> created =
                co_await client->create(resources::config_maps(), std::move(object));
            if (!created.ok()) co_return std::move(created).error();
        }
        co_return Result<void>();
    }
    /// Several at a time.
    void create_config_maps(const std::string& ns, int count, size_t padding = 10) {
        constexpr int kParallel = 20;
        std::vector<async::Task<Result<void>>> tasks;
        for (int i = 0; i < kParallel; ++i) {
            tasks.push_back(
                create_many(ns, count * i / kParallel, count * (i + 1) / kParallel, padding));
        }
        const Result<void> all = run(async::join_all(*loop, std::move(tasks)));
        ASSERT_TRUE(all.ok()) << all.error().to_string();
    }
};

TEST_P(KubeClientTest, CreatesReadsChangesDeletes) {
    const std::string ns = make_namespace();
    Result<Value> created = run(client->create(resources::config_maps(), config_map(ns, "a", "1")));
    ASSERT_TRUE(created.ok()) << created.error().to_string();
    EXPECT_EQ(
        run(client->create(resources::config_maps(), config_map(ns, "a", "1"))).error().code(),
        Code::kAlreadyExists);
    Value changed = *created;
    changed.at("data").set("value", "2");
    Result<Value> replaced = run(client->replace(resources::config_maps(), changed));
    ASSERT_TRUE(replaced.ok());
    const Result<Value> conflict = run(client->replace(resources::config_maps(), changed));
    ASSERT_FALSE(conflict.ok());
    EXPECT_EQ(conflict.error().code(), Code::kAborted);
    EXPECT_EQ(conflict.error().reason(), "Conflict");
    const Result<Value> merged =
        run(client->merge_patch(resources::config_maps(), ObjectKey(ns, "a"),
                                data::parse_json(R"({"data":{"b":"3"}})").value()));
    ASSERT_TRUE(merged.ok());
    EXPECT_EQ((*merged)["data"]["b"].as_string(), "3");
    const Result<Value> patched =
        run(client->json_patch(resources::config_maps(), ObjectKey(ns, "a"),
                               data::parse_json(R"([{"op":"remove","path":"/data/b"}])").value()));
    ASSERT_TRUE(patched.ok());
    EXPECT_FALSE((*patched)["data"].contains("b"));

    kube::DeleteOptions wrong;
    wrong.uid = "00000000-0000-0000-0000-000000000000";
    EXPECT_EQ(
        run(client->remove(resources::config_maps(), ObjectKey(ns, "a"), wrong)).error().code(),
        Code::kAborted);
    kube::DeleteOptions right;
    right.uid = kube::uid_of(*created);
    EXPECT_TRUE(run(client->remove(resources::config_maps(), ObjectKey(ns, "a"), right)).ok());
    EXPECT_EQ(run(client->get(resources::config_maps(), ObjectKey(ns, "a"))).error().code(),
              Code::kNotFound);
}

TEST_P(KubeClientTest, InvalidObjectsNameTheField) {
    const std::string ns = make_namespace();
    Value service = kube::make_object(resources::services(), ObjectKey(ns, "s"));
    service.set("spec", data::parse_json(R"({"ports":[{"port":99999}]})").value());
    Value failure;
    kube::WriteOptions write;
    write.failure = &failure;
    const Result<Value> result = run(client->create(resources::services(), service, write));
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(result.error().reason(), "Invalid");
    EXPECT_EQ(failure["details"]["causes"][0]["field"].as_string(), "spec.ports[0].port");
    kube::WriteOptions strict;
    strict.field_validation = "Strict";
    Value unknown = config_map(ns, "a", "1");
    unknown.set("nonsense", 1);
    EXPECT_EQ(run(client->create(resources::config_maps(), unknown, strict)).error().code(),
              Code::kInvalidArgument);
    kube::WriteOptions dry;
    dry.dry_run = true;
    EXPECT_TRUE(
        run(client->create(resources::config_maps(), config_map(ns, "dry", "1"), dry)).ok());
    EXPECT_EQ(run(client->get(resources::config_maps(), ObjectKey(ns, "dry"))).error().code(),
              Code::kNotFound);
}

TEST_P(KubeClientTest, UnauthorisedUsersAreForbidden) {
    auto nobody = make_client(server->access("nobody", ""));
    EXPECT_EQ(run(nobody->list(resources::secrets())).error().code(), Code::kPermissionDenied);
    kube::Access anonymous = server->access();
    anonymous.client_certificate = {};
    anonymous.client_key = {};
    anonymous.token.inline_data = Secret("wrong");
    auto unknown = make_client(anonymous);
    EXPECT_EQ(run(unknown->list(resources::secrets())).error().code(), Code::kUnauthenticated);
}

TEST_P(KubeClientTest, Subresources) {
    const std::string ns = make_namespace();
    const Value account = kube::make_object(resources::service_accounts(), ObjectKey(ns, "sa"));
    ASSERT_TRUE(run(client->create(resources::service_accounts(), account)).ok());
    Value request = account;
    request.set("apiVersion", "authentication.k8s.io/v1").set("kind", "TokenRequest");
    request.set("spec", data::parse_json(R"({"expirationSeconds":600})").value());
    kube::WriteOptions token;
    token.subresource = "token";
    const Result<Value> issued = run(client->create(resources::service_accounts(), request, token));
    ASSERT_TRUE(issued.ok()) << issued.error().to_string();
    // The token works as a credential from a file.
    kube::Access access = server->access();
    access.client_certificate = {};
    access.client_key = {};
    access.token.inline_data = Secret((*issued)["status"]["token"].as_string());
    auto as_account = make_client(access);
    const Result<Value> review = run(as_account->create(
        kube::Resource("authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview",
                       false),
        data::parse_json(R"({"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"})")
            .value()));
    ASSERT_TRUE(review.ok()) << review.error().to_string();
    EXPECT_EQ((*review)["status"]["userInfo"]["username"].as_string(),
              "system:serviceaccount:" + ns + ":sa");

    Value deployment = kube::make_object(resources::deployments(), ObjectKey(ns, "d"));
    deployment.set("spec", data::parse_json(R"({"selector":{"matchLabels":{"a":"b"}},"template":{
        "metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}})")
                               .value());
    ASSERT_TRUE(run(client->create(resources::deployments(), deployment)).ok());
    kube::WriteOptions scale;
    scale.subresource = "scale";
    const Result<Value> scaled =
        run(client->merge_patch(resources::deployments(), ObjectKey(ns, "d"),
                                data::parse_json(R"({"spec":{"replicas":4}})").value(), scale));
    ASSERT_TRUE(scaled.ok());
    EXPECT_EQ((*scaled)["kind"].as_string(), "Scale");
    EXPECT_EQ((*run(client->get(resources::deployments(), ObjectKey(ns, "d"))))["spec"]["replicas"]
                  .as_int(),
              4);
}

TEST_P(KubeClientTest, ServerSideApply) {
    const std::string ns = make_namespace();
    kube::WriteOptions one;
    one.field_manager = "one";
    one.force = false;
    ASSERT_TRUE(run(client->apply(resources::config_maps(), config_map(ns, "a", "1"), one)).ok());
    kube::WriteOptions two = one;
    two.field_manager = "two";
    Value failure;
    two.failure = &failure;
    const Result<Value> conflict =
        run(client->apply(resources::config_maps(), config_map(ns, "a", "2"), two));
    ASSERT_FALSE(conflict.ok());
    EXPECT_EQ(conflict.error().code(), Code::kAborted);
    EXPECT_EQ(failure["details"]["causes"][0]["field"].as_string(), ".data.value");
    two.force = true;
    two.failure = nullptr;
    const Result<Value> forced =
        run(client->apply(resources::config_maps(), config_map(ns, "a", "2"), two));
    ASSERT_TRUE(forced.ok());
    EXPECT_EQ((*forced)["data"]["value"].as_string(), "2");
}

TEST_P(KubeClientTest, AppliesOnlyWhatChanges) {
    const std::string ns = make_namespace();
    // Values that the server normalises and defaults in many places.
    Value intent = kube::make_object(resources::deployments(), ObjectKey(ns, "d"));
    intent.at("metadata").set("labels", Value::object({{"app", "x"}}));
    intent.set("spec", data::parse_json(R"({
        "replicas":2,"selector":{"matchLabels":{"app":"x"}},
        "strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"100%","maxUnavailable":0}},
        "template":{"metadata":{"labels":{"app":"x"}},"spec":{
          "automountServiceAccountToken":false,"nodeSelector":{},
          "containers":[{"name":"c","image":"i:1","args":["--a","--b"],
             "env":[{"name":"A","value":"1"},{"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}],
             "ports":[{"containerPort":80},{"containerPort":443,"name":"https"}],
             "resources":{"requests":{"cpu":"250m","memory":"64Mi"}},
             "livenessProbe":{"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":5},
             "volumeMounts":[{"name":"v","mountPath":"/v"}]}],
          "tolerations":[{"key":"k","operator":"Exists"}],
          "topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway",
             "labelSelector":{"matchLabels":{"app":"x"}}}],
          "volumes":[{"name":"v","secret":{"secretName":"s"}},{"name":"p","projected":{"sources":[
             {"secret":{"name":"s","items":[{"key":"a","path":"b"}]}}]}}]}}})")
                           .value());
    controller::Applier applier(*client, "basalt");
    Result<controller::Applied> first =
        run(applier.apply(resources::deployments(), intent, nullptr));
    ASSERT_TRUE(first.ok()) << first.error().to_string();
    EXPECT_TRUE(controller::in_force(intent, *first->object, "basalt"))
        << data::to_json((*first->object)["metadata"]["managedFields"]);
    EXPECT_FALSE(run(applier.apply(resources::deployments(), intent, first->object))->written);

    // Another process without our memory does not write either.
    controller::Applier fresh(*client, "basalt");
    const auto live = std::make_shared<const Value>(
        run(client->get(resources::deployments(), ObjectKey(ns, "d"))).value());
    EXPECT_FALSE(run(fresh.apply(resources::deployments(), intent, live))->written);

    // A field that is no longer wanted goes away.
    Value& container =
        intent.at("spec").at("template").at("spec").at("containers").mutable_items()[0];
    container.erase("livenessProbe");
    container.at("args").mutable_items().pop_back();
    Result<controller::Applied> less = run(fresh.apply(resources::deployments(), intent, live));
    ASSERT_TRUE(less.ok() && less->written);
    EXPECT_TRUE(
        (*less->object)["spec"]["template"]["spec"]["containers"][0]["livenessProbe"].is_null());
    EXPECT_FALSE(run(fresh.apply(resources::deployments(), intent, less->object))->written);

    // A quantity that the server writes otherwise: once, not again.
    intent.at("spec")
        .at("template")
        .at("spec")
        .at("containers")
        .mutable_items()[0]
        .at("resources")
        .at("requests")
        .set("cpu", "1000m");
    Result<controller::Applied> odd =
        run(fresh.apply(resources::deployments(), intent, less->object));
    ASSERT_TRUE(odd.ok() && odd->written);
    EXPECT_FALSE(run(fresh.apply(resources::deployments(), intent, odd->object))->written);

    Value service = kube::make_object(resources::services(), ObjectKey(ns, "s"));
    service.set("spec", data::parse_json(R"({"type":"ClusterIP","selector":{"app":"x"},
        "ports":[{"name":"a","port":80,"targetPort":80},{"name":"b","port":81,"protocol":"TCP","targetPort":"x"}]})")
                            .value());
    Result<controller::Applied> made = run(fresh.apply(resources::services(), service, nullptr));
    ASSERT_TRUE(made.ok()) << made.error().to_string();
    EXPECT_TRUE(controller::in_force(service, *made->object, "basalt"));
}

TEST_P(KubeClientTest, TakesOverForeignManagers) {
    const std::string ns = make_namespace();
    kube::WriteOptions kamaji;
    kamaji.field_manager = "kamaji";
    Value object = config_map(ns, "a", "1");
    object.at("data").set("old", "x");
    ASSERT_TRUE(run(client->create(resources::config_maps(), object, kamaji)).ok());
    const Value live = run(client->get(resources::config_maps(), ObjectKey(ns, "a"))).value();
    const Value patch = controller::take_over_managers(live, {"kamaji"}, "basalt");
    ASSERT_EQ(patch.size(), 2u);
    ASSERT_TRUE(run(client->json_patch(resources::config_maps(), ObjectKey(ns, "a"), patch)).ok());
    kube::WriteOptions ours;
    ours.field_manager = "basalt";
    const Result<Value> applied =
        run(client->apply(resources::config_maps(), config_map(ns, "a", "1"), ours));
    ASSERT_TRUE(applied.ok());
    EXPECT_FALSE((*applied)["data"].contains("old")) << "a field of the former manager was removed";
}

TEST_P(KubeClientTest, DiscoversResources) {
    const Result<std::shared_ptr<const kube::Discovery>> discovery = run(client->discover());
    ASSERT_TRUE(discovery.ok()) << discovery.error().to_string();
    const kube::Discovery::Entry* entry = (*discovery)->find_name("deploy");
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->resource, resources::deployments());
    EXPECT_NE(std::find(entry->subresources.begin(), entry->subresources.end(), "scale"),
              entry->subresources.end());
    // What is written in the code is what the server has.
    for (const kube::Resource* resource : {&resources::pods(),
                                           &resources::secrets(),
                                           &resources::namespaces(),
                                           &resources::leases(),
                                           &resources::events(),
                                           &resources::endpoint_slices(),
                                           &resources::pod_disruption_budgets(),
                                           &resources::network_policies(),
                                           &resources::ingresses(),
                                           &resources::cluster_roles(),
                                           &resources::cluster_role_bindings(),
                                           &resources::roles(),
                                           &resources::role_bindings(),
                                           &resources::storage_classes(),
                                           &resources::priority_classes(),
                                           &resources::api_services(),
                                           &resources::custom_resource_definitions(),
                                           &resources::validating_webhook_configurations(),
                                           &resources::mutating_webhook_configurations(),
                                           &resources::validating_admission_policies(),
                                           &resources::validating_admission_policy_bindings(),
                                           &resources::token_reviews(),
                                           &resources::subject_access_reviews(),
                                           &resources::certificate_signing_requests(),
                                           &resources::jobs(),
                                           &resources::daemon_sets(),
                                           &resources::stateful_sets(),
                                           &resources::replica_sets(),
                                           &resources::persistent_volumes(),
                                           &resources::persistent_volume_claims(),
                                           &resources::nodes(),
                                           &resources::config_maps(),
                                           &resources::services(),
                                           &resources::service_accounts(),
                                           &resources::endpoints()}) {
        const Result<kube::Resource> found = run(client->resource_for(resource->gvk()));
        ASSERT_TRUE(found.ok()) << resource->to_string();
        EXPECT_EQ(*found, *resource);
    }
}

TEST_P(KubeClientTest, ListsFiveThousandInPages) {
    const std::string ns = make_namespace();
    create_config_maps(ns, 5000);
    const Result<kube::ObjectList> all = run(client->list(resources::config_maps(), ns));
    ASSERT_TRUE(all.ok()) << all.error().to_string();
    EXPECT_EQ(all->items.size(), 5000u);
    std::set<std::string> names;
    for (const Value& item : all->items) names.insert(std::string(kube::name_of(item)));
    EXPECT_EQ(names.size(), 5000u);
    kube::ListOptions list;
    list.page_size = 10;
    const Result<kube::ObjectList> page =
        run(client->list_page(resources::config_maps(), ns, list, ""));
    ASSERT_TRUE(page.ok());
    EXPECT_EQ(page->items.size(), 10u);
    EXPECT_FALSE(page->continue_token.empty());
    const Result<kube::ObjectList> bad =
        run(client->list_page(resources::config_maps(), ns, list, "nonsense"));
    EXPECT_FALSE(bad.ok());

    for (const bool stream : {true, false}) {
        kube::CacheOptions options(resources::config_maps(), ns);
        options.reflector.watch_list = stream;
        options.metadata_only = true;
        auto cache = std::make_unique<kube::Cache>(*client, options);
        async::TaskGroup own(*loop);
        cache->start(own);
        ASSERT_TRUE(wait_until([&] { return cache->has_synced(); }, 30s));
        EXPECT_EQ(cache->size(), 5000u);
        EXPECT_EQ(cache->stats().lists_count, stream ? 0u : 1u);
        const kube::SharedValue one = cache->get(ObjectKey(ns, "c00000"));
        ASSERT_TRUE(one);
        EXPECT_EQ((*one)["kind"].as_string(), "ConfigMap");
        EXPECT_FALSE(one->contains("data"));
        own.cancel();
        ASSERT_TRUE(wait_until([&] { return own.size() == 0; }, 10s));
    }
    EXPECT_TRUE(run(client->remove_collection(resources::config_maps(), ns, {})).ok());
    EXPECT_EQ(run(client->list(resources::config_maps(), ns))->items.size(), 0u);
}

TEST_P(KubeClientTest, CacheFollowsAndSurvivesARestart) {
    const std::string ns = make_namespace();
    ASSERT_TRUE(run(client->create(resources::config_maps(), config_map(ns, "a", "1"))).ok());
    ASSERT_TRUE(run(client->create(resources::config_maps(), config_map(ns, "gone", "1"))).ok());
    for (const bool stream : {true, false}) {
        SCOPED_TRACE(stream ? "streaming list" : "list and watch");
        kube::CacheOptions options(resources::config_maps(), ns);
        options.reflector.watch_list = stream;
        kube::Cache cache(*client, options);
        std::vector<std::string> deleted;
        cache.add_handler([&](const kube::Change& change) {
            if (!change.after) deleted.push_back(kube::key_of(change.object()).name);
        });
        async::TaskGroup own(*loop);
        cache.start(own);
        ASSERT_TRUE(wait_until([&] { return cache.has_synced(); }, 30s));
        const auto value_of = [&](const std::string& name) {
            const kube::SharedValue object = cache.get(ObjectKey(ns, name));
            return object ? (*object)["data"]["value"].str() : "";
        };
        const std::string first = stream ? "s1" : "l1";
        ASSERT_TRUE(run(client->apply(resources::config_maps(), config_map(ns, "a", first))).ok());
        EXPECT_TRUE(wait_until([&] { return value_of("a") == first; }, 10s));
        const std::string dying = stream ? "gone" : "gone2";
        if (!stream) {
            ASSERT_TRUE(
                run(client->create(resources::config_maps(), config_map(ns, dying, "1"))).ok());
            EXPECT_TRUE(wait_until([&] { return value_of(dying) == "1"; }, 10s));
        }
        // The server loses its memory of old versions while it is away.
        server->stop_api_server();
        loop->call_at(loop->now() + 300ms, [] {});
        ASSERT_TRUE(server->start_api_server().ok());
        ASSERT_TRUE(
            wait_until([&] { return run(client->request_text("GET", "/readyz")).ok(); }, 60s));
        ASSERT_TRUE(run(client->remove(resources::config_maps(), ObjectKey(ns, dying))).ok());
        const std::string second = stream ? "s2" : "l2";
        ASSERT_TRUE(run(client->apply(resources::config_maps(), config_map(ns, "a", second))).ok());
        EXPECT_TRUE(
            wait_until([&] { return value_of("a") == second && value_of(dying).empty(); }, 60s));
        EXPECT_EQ(deleted, std::vector<std::string>{dying});
        own.cancel();
        ASSERT_TRUE(wait_until([&] { return own.size() == 0; }, 10s));
    }
}

TEST_P(KubeClientTest, TooOldVersionsAreGone) {
    const std::string ns = make_namespace();
    // Versions below the watch cache's window, then compacted in etcd.
    create_config_maps(ns, 400);
    kube::WatchOptions old;
    old.resource_version = "1";
    Result<std::unique_ptr<kube::Watch>> stream =
        run(client->watch(resources::config_maps(), ns, old));
    std::optional<Error> error;
    if (stream.ok()) {
        Result<std::optional<kube::WatchEvent>> event = run((*stream)->next());
        if (!event.ok()) error = event.error();
    } else {
        error = stream.error();
    }
    ASSERT_TRUE(error.has_value());
    EXPECT_TRUE(kube::is_expired(*error)) << error->to_string();

    // A cache that slept through more than the server remembers.
    const std::string quiet = make_namespace();
    ASSERT_TRUE(run(client->create(resources::config_maps(), config_map(quiet, "a", "1"))).ok());
    kube::CacheOptions options(resources::config_maps(), quiet);
    kube::Cache cache(*client, options);
    async::TaskGroup own(*loop);
    cache.start(own);
    ASSERT_TRUE(wait_until([&] { return cache.has_synced(); }, 30s));
    create_config_maps(make_namespace(), 400);
    server->stop_api_server();
    ASSERT_TRUE(server->start_api_server().ok());
    ASSERT_TRUE(wait_until([&] { return run(client->request_text("GET", "/readyz")).ok(); }, 60s));
    ASSERT_TRUE(run(client->apply(resources::config_maps(), config_map(quiet, "a", "2"))).ok());
    EXPECT_TRUE(wait_until(
        [&] {
            const kube::SharedValue object = cache.get(ObjectKey(quiet, "a"));
            return object && (*object)["data"]["value"].as_string() == "2";
        },
        60s));
    EXPECT_GE(cache.stats().close_reasons.count("expired"), 1u);
    own.cancel();
    ASSERT_TRUE(wait_until([&] { return own.size() == 0; }, 10s));
}

TEST_P(KubeClientTest, BookmarksArrive) {
    const std::string ns = make_namespace();
    kube::WatchOptions watch;
    watch.send_initial_events = true;
    Result<std::unique_ptr<kube::Watch>> stream =
        run(client->watch(resources::config_maps(), ns, watch));
    ASSERT_TRUE(stream.ok()) << stream.error().to_string();
    Result<std::optional<kube::WatchEvent>> event = run((*stream)->next());
    ASSERT_TRUE(event.ok() && event->has_value());
    EXPECT_TRUE(kube::is_initial_events_end(**event)) << "an empty collection starts with its end";
    EXPECT_FALSE(kube::resource_version_of((*event)->object).empty());
}

TEST_P(KubeClientTest, ManyWatchesShareConnections) {
    const std::string ns = make_namespace();
    std::vector<std::unique_ptr<kube::Cache>> caches;
    async::TaskGroup own(*loop);
    for (int i = 0; i < 150; ++i) {
        kube::CacheOptions options(resources::config_maps(), ns);
        options.label_selector = fmt::format("n={}", i);
        caches.push_back(std::make_unique<kube::Cache>(*client, options));
        caches.back()->start(own);
    }
    const auto all_synced = [&] {
        return std::all_of(caches.begin(), caches.end(),
                           [](const auto& cache) { return cache->has_synced(); });
    };
    ASSERT_TRUE(wait_until(all_synced, 60s));
    Value object = config_map(ns, "x", "1");
    object.at("metadata").set("labels", Value::object({{"n", "77"}}));
    ASSERT_TRUE(run(client->create(resources::config_maps(), object)).ok());
    EXPECT_TRUE(wait_until([&] { return caches[77]->size() == 1; }, 10s));
    EXPECT_EQ(caches[76]->size(), 0u);
    own.cancel();
    ASSERT_TRUE(wait_until([&] { return own.size() == 0; }, 10s));
}

INSTANTIATE_TEST_SUITE_P(Kubernetes, KubeClientTest, ::testing::Values(BASALT_KUBE_VERSIONS),
                         version_name);

}  // namespace
}  // namespace basalt::integration
