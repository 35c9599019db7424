#include "tests/sim/run.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/assert.h"
#include "controller/conditions.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/kubeconfig_generator.h"
#include "controlplane/names.h"
#include "controlplane/status.h"
#include "data/json.h"
#include "tests/sim/instance.h"
#include "tests/sim/normalise.h"
#include "tests/sim/script.h"
#include "tests/sim/world.h"

namespace basalt::sim {

using namespace std::chrono_literals;
namespace r = kube::resources;
using controlplane::data_stores;
using controlplane::tenant_control_planes;

namespace {

/// Nothing but leases and events is written for so long: the world is quiet.
constexpr Duration kQuiet = 3min;
/// Peace has to come within this: back-offs reach five minutes.
constexpr Duration kPatience = 60min;
constexpr Duration kIdle = 30min;

class Run {
 public:
    explicit Run(const RunOptions& options)
        : options_(options),
          world_({options.seed, false}),
          script_(world_, options.fault_scale > 0),
          bugs_before_(bug_count()) {
        world_.verbose = options.verbose;
    }

    RunResult run() {
        bool go_on = true;
        begin();
        suffer();
        go_on = go_on && settle();
        go_on = go_on && check_equal();
        go_on = go_on && check_idle();
        go_on = go_on && check_deletion();
        result_.script = script_.log();
        result_.writes = world_.controller_writes();
        result_.trace = world_.trace();
        return std::move(result_);
    }

 private:
    bool fail(const std::string& check, std::vector<std::string> details) {
        result_.ok = false;
        result_.check = check;
        result_.details = std::move(details);
        return false;
    }

    /// Lets time pass; processes that ended are buried, and started again a while later.
    void pass(Duration duration) {
        async::SimLoop& loop = world_.loop();
        const TimePoint end = loop.now() + duration;
        auto someone_ended = [&] {
            return std::any_of(world_.instances().begin(), world_.instances().end(),
                               [](const auto& instance) { return instance->ended(); });
        };
        for (;;) {
            world_.bury_dead();
            if (world_.instances().empty() && start_at_ == TimePoint()) {
                start_at_ = loop.now() + world_.chaos().between(1s, 20s);
            }
            if (start_at_ != TimePoint() && start_at_ <= loop.now()) {
                if (world_.instances().empty()) world_.start_instance();
                start_at_ = TimePoint();
            }
            if (loop.now() >= end) return;
            const TimePoint next = start_at_ == TimePoint() ? end : std::min(end, start_at_);
            if (loop.run_until(someone_ended, next - loop.now())) continue;
            loop.run_for(std::max<Duration>(Duration(0), next - loop.now()));
        }
    }

    void begin() {
        world_.start_instance();
        pass(5s);
        for (const auto& [id, object] : whole_cluster()) at_first_.insert(id);
    }

    /// Everything in the management cluster but events, by kind and name.
    std::map<std::string, SharedValue> whole_cluster() {
        std::map<std::string, SharedValue> all;
        for (const Kind* kind : world_.api().kinds()) {
            if (kind->resource.kind == "Event") continue;
            for (const SharedValue& object : world_.api().list(kind->resource))
                all[kube::describe(*object)] = object;
        }
        return all;
    }

    void suffer() {
        async::SimLoop& loop = world_.loop();
        const TimePoint end = loop.now() + std::chrono::minutes(options_.minutes);
        while (loop.now() < end && world_.faults.empty()) {
            // Storms and calms.
            const bool storm = world_.chaos().chance(0.3);
            world_.chaos().rates = many_faults(options_.fault_scale * (storm ? 3 : 0.5));
            const uint64_t actions = 1 + world_.chaos().below(6);
            for (uint64_t i = 0; i < actions; ++i) {
                script_.act();
                pass(world_.chaos().chance(0.5) ? world_.chaos().between(0s, 2s)
                                                : world_.chaos().between(1s, 40s));
            }
        }
        world_.chaos().rates = no_faults();
    }

    bool check_invariants() {
        if (!world_.faults.empty()) return fail("invariants", world_.faults);
        if (bug_count() != bugs_before_)
            return fail("bugs", {"an impossible state was counted, see the log"});
        return true;
    }

    bool wait_quiet(const std::string& check) {
        async::SimLoop& loop = world_.loop();
        const TimePoint limit = loop.now() + kPatience;
        // At least one interval in which the DataStores are looked at.
        pass(kQuiet);
        while (loop.now() - world_.last_write_at() < kQuiet) {
            if (loop.now() >= limit) {
                std::vector<std::string> details{"writes do not cease:"};
                for (const std::string& line : world_.recent_writes()) details.push_back(line);
                return fail(check, std::move(details));
            }
            pass(kQuiet - (loop.now() - world_.last_write_at()));
        }
        return check_invariants();
    }

    static bool is_asleep(const Value& object) {
        return object["spec"]["controlPlane"]["deployment"]["replicas"].as_int(2) == 0;
    }

    /// What is wrong with one that sleeps: it says so, nothing of it runs, and everything that it
    /// needs to wake is there.
    std::vector<std::string> wrong_asleep(const Value& object) {
        std::vector<std::string> wrong;
        const ObjectKey key = kube::key_of(object);
        const Value& status = object["status"];
        auto expect = [&](bool good, const std::string& what) {
            if (!good) wrong.push_back(kube::describe(object) + " sleeps, but " + what);
        };
        for (const char* type : {"Ready", "Progressing"}) {
            const Value& condition = controller::find_condition(status, type);
            expect(condition["status"].as_string() == "False" &&
                       condition["reason"].as_string() == "Sleeping",
                   fmt::format("{} is {} ({}: {})", type, condition["status"].as_string(),
                               condition["reason"].as_string(), condition["message"].as_string()));
        }
        const Value& version = status["kubernetesResources"]["version"];
        expect(version["status"].as_string() == "Sleeping", "its version's status does not say so");
        SharedValue deployment = world_.api().get(r::deployments(), key);
        expect(deployment != nullptr && (*deployment)["spec"]["replicas"].as_int(-1) == 0,
               "its Deployment is not at 0");
        for (const SharedValue& pod : world_.api().list(r::pods(), key.ns)) {
            expect(kube::label_of(*pod, controlplane::names::kNameLabel) != key.name,
                   kube::describe(*pod) + " runs");
        }
        expect(world_.api().get(r::services(), key) != nullptr, "its Service is gone");
        for (const std::string& secret :
             {controlplane::names::ca(key.name), controlplane::names::service_account(key.name),
              controlplane::names::api_server(key.name),
              controlplane::names::datastore_certificate(key.name)}) {
            expect(world_.api().get(r::secrets(), ObjectKey(key.ns, secret)) != nullptr,
                   "Secret " + secret + " is gone");
        }
        return wrong;
    }

    bool check_asleep() {
        std::vector<std::string> details;
        for (const SharedValue& object : script_.sleeping()) {
            for (std::string& wrong : wrong_asleep(*object)) details.push_back(std::move(wrong));
        }
        if (details.empty()) return true;
        return fail("asleep", std::move(details));
    }

    static std::string why_not_ready(const Value& object) {
        const Value& status = object["status"];
        if (controller::is_condition_true(status, "Ready")) return "";
        const Value& ready = controller::find_condition(status, "Ready");
        return fmt::format("{}: {}: {}", kube::describe(object), ready["reason"].as_string(),
                           ready["message"].as_string());
    }

    bool check_ready() {
        std::vector<std::string> details;
        for (const kube::Resource* resource : {&tenant_control_planes(), &data_stores()}) {
            for (const SharedValue& object : world_.api().list(*resource)) {
                if (is_asleep(*object)) continue;
                const std::string why = why_not_ready(*object);
                if (!why.empty()) details.push_back(why);
            }
        }
        if (details.empty()) return true;
        return fail("converges", std::move(details));
    }

    bool settle() {
        script_.mend();
        world_.chaos().rates = no_faults();
        // Where all that there may be are being deleted, they have to go first.
        while (!script_.has_lasting_control_plane()) {
            script_.act();
            pass(1s);
        }
        script_.mend();
        for (const auto& instance : world_.instances()) instance->crash_at_write(0, false);
        if (world_.instances().empty()) world_.start_instance();
        if (!wait_quiet("converges") || !check_asleep() || !check_ready()) return false;
        if (!script_.sleeping().empty()) {
            script_.wake_all();
            if (!wait_quiet("converges") || !check_ready()) return false;
        }
        // Some fall asleep at last.
        for (const SharedValue& object : world_.api().list(tenant_control_planes())) {
            if (!world_.chaos().chance(0.25)) continue;
            asleep_.push_back(kube::key_of(*object));
            set_replicas(world_, kube::key_of(*object), 0);
        }
        return asleep_.empty() || (wait_quiet("converges") && check_asleep());
    }

    static void set_replicas(World& world, const ObjectKey& key, int64_t replicas) {
        Value patch = Value::object();
        patch.at("spec").at("controlPlane").at("deployment").set("replicas", replicas);
        (void)world.api().patch(tenant_control_planes(), key, patch, "user");
    }

    /// The same wishes in a world where nothing ever went wrong.
    bool make_reference(World& reference) {
        for (const SharedValue& ns : world_.api().list(r::namespaces())) {
            reference.make_namespace(std::string(kube::name_of(*ns)));
        }
        for (const auto& [name, store] : world_.datastores()) reference.make_datastore(name);
        reference.start_instance();
        const kube::Resource& generators = controlplane::kubeconfig_generators();
        for (const SharedValue& object : world_.api().list(generators)) {
            Value wish = kube::make_object(generators, kube::key_of(*object));
            wish.set("spec", (*object)["spec"]);
            (void)reference.api().create(generators, wish, "user");
        }
        for (const SharedValue& object : world_.api().list(tenant_control_planes())) {
            Value wish = kube::make_object(tenant_control_planes(), kube::key_of(*object));
            for (const char* part : {"labels", "annotations"}) {
                wish.at("metadata").set_unless_empty(part, (*object)["metadata"][part]);
            }
            wish.set("spec", (*object)["spec"]);
            Value& replicas = wish.at("spec").at("controlPlane").at("deployment").at("replicas");
            if (replicas.as_int() == 0) replicas = 1;
            (void)reference.api().create(tenant_control_planes(), wish, "user");
        }
        if (!settle_reference(reference)) return false;
        for (const ObjectKey& key : asleep_) set_replicas(reference, key, 0);
        return asleep_.empty() || settle_reference(reference);
    }

    bool settle_reference(World& reference) {
        async::SimLoop& loop = reference.loop();
        const TimePoint limit = loop.now() + kPatience;
        loop.run_for(kQuiet);
        while (loop.now() - reference.last_write_at() < kQuiet && loop.now() < limit) {
            loop.run_for(kQuiet - (loop.now() - reference.last_write_at()));
        }
        if (loop.now() < limit && reference.faults.empty()) return true;
        std::vector<std::string> details{"the undisturbed world does not come to rest"};
        for (const std::string& line : reference.recent_writes()) details.push_back(line);
        for (const std::string& fault : reference.faults) details.push_back(fault);
        return fail("equals", std::move(details));
    }

    bool check_equal() {
        World reference({options_.seed + 1'000'000, true});
        if (!make_reference(reference)) return false;
        result_.control_planes = script_.control_planes_count();
        std::vector<std::string> differences =
            compare_snapshots(take_snapshot(world_), take_snapshot(reference));
        if (differences.empty()) return true;
        return fail("equals", std::move(differences));
    }

    bool check_idle() {
        const World::Activity before = world_.activity();
        const auto instances = world_.instances().size();
        pass(kIdle);
        const World::Activity after = world_.activity();
        if (after == before && world_.instances().size() == instances) return check_invariants();
        std::vector<std::string> details{fmt::format("in {} of idleness:", format_duration(kIdle)),
                                         fmt::format("from {}", before.to_string()),
                                         fmt::format("to   {}", after.to_string())};
        for (const std::string& line : world_.recent_writes()) details.push_back(line);
        return fail("idle", std::move(details));
    }

    /// The cluster is as it was before the first wish.
    std::vector<std::string> left_in_cluster() {
        std::vector<std::string> left;
        const std::map<std::string, SharedValue> now = whole_cluster();
        for (const auto& [id, object] : now) {
            if (!at_first_.contains(id)) left.push_back(id);
        }
        for (const std::string& id : at_first_) {
            if (!now.contains(id)) left.push_back(id + " is gone");
        }
        return left;
    }

    bool check_deletion() {
        world_.chaos().rates = many_faults(options_.fault_scale);
        script_.delete_all();
        pass(2min);
        world_.chaos().rates = no_faults();
        if (!wait_quiet("leaks")) return false;
        std::vector<std::string> left = left_in_cluster();
        for (const auto& [name, store] : world_.datastores()) {
            auto stays = [&, store_name = name](const std::string& text) {
                return text == "root" || world_.is_left_behind(store_name, text);
            };
            for (const auto& [user, roles] : store->model.users) {
                if (!stays(user)) left.push_back(fmt::format("etcd {} user {}", name, user));
            }
            for (const auto& [role, permissions] : store->model.roles) {
                if (!stays(role)) left.push_back(fmt::format("etcd {} role {}", name, role));
            }
            for (const auto& [key, value] : store->model.data) {
                if (!stays(key)) left.push_back(fmt::format("etcd {} key {}", name, key));
            }
        }
        for (const SharedValue& store : world_.api().list(data_stores())) {
            if ((*store)["status"]["usedBy"].size() > 0)
                left.push_back(kube::describe(*store) + " is still used");
        }
        if (!left.empty()) return fail("leaks", std::move(left));
        for (const SharedValue& store : world_.api().list(data_stores())) {
            (void)world_.api().remove(data_stores(), kube::key_of(*store), "user");
        }
        pass(1min);
        if (world_.api().list(data_stores()).empty()) return true;
        return fail("leaks", {"DataStores do not go"});
    }

    RunOptions options_;
    World world_;
    Script script_;
    unsigned long bugs_before_;
    TimePoint start_at_{};  ///< Of the next process, when none runs.
    std::vector<ObjectKey> asleep_;
    std::set<std::string> at_first_;  ///< What there was before the first wish.
    RunResult result_;
};

}  // namespace

std::string RunResult::to_string(const RunOptions& options) const {
    if (ok)
        return fmt::format("seed {}: passed, {} control planes, {} writes, trace {:016x}",
                           options.seed, control_planes, writes, trace);
    std::string text = fmt::format("seed {}: check \"{}\" failed\n", options.seed, check);
    for (const std::string& detail : details) text += "    " + detail + "\n";
    text += "  what happened:\n";
    for (const std::string& line : script) text += "    " + line + "\n";
    return text + fmt::format(
                      "  again: basalt-sim --seed {} --minutes {} "
                      "--faults {} --verbose\n",
                      options.seed, options.minutes, options.fault_scale);
}

RunResult run_seed(const RunOptions& options) { return Run(options).run(); }

}  // namespace basalt::sim
