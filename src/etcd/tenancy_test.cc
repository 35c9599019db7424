#include "etcd/tenancy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "etcd/etcd_process.h"
#include "etcd/health.h"
#include "etcd/model.h"

namespace basalt::etcd {
namespace {

using async::Task;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// --- ranges

TEST(RangeTest, PrefixEnd) {
    EXPECT_EQ(prefix_end("/a/"), "/a0");
    EXPECT_EQ(prefix_end("a"), "b");
    EXPECT_EQ(prefix_end("a\xff"), "b");
    EXPECT_EQ(prefix_end("a\xfe\xff\xff"), "a\xff");
    EXPECT_EQ(prefix_end("\xff\xff"), std::string(1, '\0'));
    EXPECT_EQ(prefix_end(""), std::string(1, '\0'));
    EXPECT_EQ(prefix_end(std::string("a\0", 2)), "a\x01");
}

// CVE-2024-42480: the range of a tenant reached to the end of the key space.
TEST(RangeTest, ATenantsRangeHoldsItsKeysAndNoOther) {
    Result<KeyRange> range = tenant_range("team-a_one");
    ASSERT_TRUE(range.ok());
    EXPECT_EQ(range->begin, "/team-a_one/");
    EXPECT_EQ(range->end, "/team-a_one0");
    auto inside = [&](const std::string& key) { return key >= range->begin && key < range->end; };
    EXPECT_TRUE(inside("/team-a_one/"));
    EXPECT_TRUE(inside("/team-a_one/registry/pods/default/x"));
    EXPECT_TRUE(inside(std::string("/team-a_one/\xff\xff")));
    for (const char* foreign :
         {"/team-a_one", "/team-a_one-b/x", "/team-a_one0", "/team-a_onf/", "/team-a_on/",
          "/team-a_one.x/", "0", "/", "\xff", "/team-b_one/registry/secrets"}) {
        EXPECT_FALSE(inside(foreign)) << foreign;
    }
}

TEST(RangeTest, OneTenantsRangeNeverHoldsAnothers) {
    const std::vector<std::string> schemas = {"a",   "a-",  "a-b", "a0", "aa",   "A",
                                              "a.b", "a_b", "a~",  "b",  "\xff", "a\xff"};
    for (const std::string& one : schemas) {
        for (const std::string& other : schemas) {
            if (one == other) continue;
            Result<KeyRange> x = tenant_range(one), y = tenant_range(other);
            ASSERT_TRUE(x.ok() && y.ok());
            EXPECT_TRUE(x->end <= y->begin || y->end <= x->begin) << one << " " << other;
        }
    }
}

TEST(RangeTest, RefusesSchemasThatLandElsewhere) {
    for (const std::string& schema :
         {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("/a"),
          std::string("a b"), std::string("a\nb"), std::string("a\0b", 3), std::string(254, 'a')}) {
        Result<KeyRange> range = tenant_range(schema);
        ASSERT_FALSE(range.ok()) << schema;
        EXPECT_EQ(range.error().code(), Code::kInvalidArgument);
    }
}

// --- the same script against the model and against real servers

class Backend {
 public:
    virtual ~Backend() = default;
    virtual std::unique_ptr<Client> connect(const std::string& user) = 0;
    virtual async::Loop& loop() = 0;
    virtual void run(Task<void> task) = 0;

    template <class T>
    Result<T> run(Task<Result<T>> task) {
        std::optional<Result<T>> slot;
        run(keep(std::move(task), &slot));
        return std::move(*slot);
    }

 private:
    template <class T>
    static Task<void> keep(Task<Result<T>> task, std::optional<Result<T>>* slot) {
        Result<T> result = co_await task;
        slot->emplace(std::move(result));
    }
};

class ModelBackend final : public Backend {
 public:
    std::unique_ptr<Client> connect(const std::string& user) override {
        return model_.connect(user);
    }
    async::Loop& loop() override { return loop_; }
    void run(Task<void> task) override {
        async::TaskGroup group(loop_);
        group.spawn(std::move(task));
        loop_.run_until([&] { return group.size() == 0; }, std::chrono::hours(1));
    }
    using Backend::run;
    ModelEtcd& model() { return model_; }

 private:
    async::SimLoop loop_{5};
    ModelEtcd model_{loop_};
};

class RealBackend final : public Backend {
 public:
    explicit RealBackend(const std::string& program) : process_(program) {}
    ~RealBackend() override {
        loop_.keep_running(false);
        loop_.run();
    }
    std::unique_ptr<Client> connect(const std::string& user) override {
        return process_.client(loop_, user);
    }
    async::Loop& loop() override { return loop_; }
    void run(Task<void> task) override { (void)run_task(loop_, succeed(std::move(task))); }
    using Backend::run;

 private:
    static Task<Result<void>> succeed(Task<void> task) {
        co_await task;
        co_return Result<void>();
    }
    async::RealLoop loop_;
    EtcdProcess process_;
};

std::vector<std::string> backends() {
    std::vector<std::string> names = {"model"};
    for (const std::string& program : etcd_programs()) names.push_back(program);
    if (names.size() == 1) names.push_back("no etcd");
    return names;
}

class TenancyTest : public testing::TestWithParam<std::string> {
 protected:
    void SetUp() override {
        if (GetParam() == "no etcd") {
            GTEST_SKIP() << "*** NO REAL ETCD under /var/cache/basalt/bin and no BASALT_ETCD: only "
                            "the model was tested ***";
        }
        if (GetParam() == "model") {
            backend_ = std::make_unique<ModelBackend>();
        } else {
            backend_ = std::make_unique<RealBackend>(GetParam());
        }
        root_ = backend_->connect("root");
    }
    void TearDown() override {
        root_.reset();
        backend_.reset();
    }

    template <class T>
    Result<T> run(Task<Result<T>> task) {
        return backend_->run(std::move(task));
    }
    static Tenant tenant(const std::string& name) {
        return {name + "-user", name, *tenant_range(name)};
    }
    static Code code_of(const Result<void>& result) {
        return result.ok() ? Code::kOk : result.error().code();
    }

    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Client> root_;
};

TEST_P(TenancyTest, AuthIsSwitchedOnOnce) {
    Result<bool> changed = run(ensure_auth(*root_));
    ASSERT_TRUE(changed.ok()) << changed.error().to_string();
    EXPECT_TRUE(*changed);
    changed = run(ensure_auth(*root_));
    ASSERT_TRUE(changed.ok());
    EXPECT_FALSE(*changed);
    std::unique_ptr<Client> stranger = backend_->connect("stranger");
    Result<void> put = run(stranger->put("/x", "1"));
    EXPECT_EQ(code_of(put), Code::kPermissionDenied) << put.error().to_string();
    Result<void> add = run(stranger->user_add("me"));
    EXPECT_FALSE(add.ok());
}

TEST_P(TenancyTest, ATenantIsMadeAndKeptAndHasItsRangeOnly) {
    ASSERT_TRUE(run(ensure_auth(*root_)).ok());
    Result<bool> made = run(ensure_tenant(*root_, tenant("a")));
    ASSERT_TRUE(made.ok()) << made.error().to_string();
    EXPECT_TRUE(*made);
    made = run(ensure_tenant(*root_, tenant("a")));
    ASSERT_TRUE(made.ok());
    EXPECT_FALSE(*made) << "nothing is written when nothing changes";
    ASSERT_TRUE(run(ensure_tenant(*root_, tenant("a-b"))).ok());

    std::unique_ptr<Client> a = backend_->connect("a-user"), b = backend_->connect("a-b-user");
    EXPECT_TRUE(run(a->put("/a/k", "1")).ok());
    EXPECT_TRUE(run(b->put("/a-b/k", "secret")).ok());
    EXPECT_EQ(code_of(run(a->put("/a-b/k", "2"))), Code::kPermissionDenied);
    EXPECT_EQ(code_of(run(a->put("/a", "2"))), Code::kPermissionDenied);
    EXPECT_EQ(code_of(run(a->put("/a0", "2"))), Code::kPermissionDenied);
    for (KeyRange foreign : {KeyRange{"/a-b/k", {}}, KeyRange{"/a/", "/a1"}, KeyRange{"/a", "/a0"},
                             KeyRange{"/a/", std::string(1, '\0')},
                             KeyRange{std::string(1, '\0'), std::string(1, '\0')}}) {
        Result<RangeResult> read = run(a->range(foreign, 0, false));
        ASSERT_FALSE(read.ok()) << foreign.begin;
        EXPECT_EQ(read.error().code(), Code::kPermissionDenied);
        EXPECT_EQ(read.error().reason(), "PermissionDenied");
    }
    Result<RangeResult> own = run(a->range(tenant("a").range, 0, false));
    ASSERT_TRUE(own.ok());
    ASSERT_EQ(own->items.size(), 1u);
    EXPECT_EQ(own->items[0].value, "1");
}

TEST_P(TenancyTest, WrongPermissionsAndRolesAreMended) {
    ASSERT_TRUE(run(ensure_auth(*root_)).ok());
    // The open range of CVE-2024-42480, another tenant's range, a read-only one, a foreign role.
    ASSERT_TRUE(run(root_->user_add("a-user")).ok());
    ASSERT_TRUE(run(root_->role_add("a")).ok());
    ASSERT_TRUE(run(root_->role_add("other")).ok());
    const std::string open(1, '\0');
    for (const Permission& wrong :
         {Permission{Access::kReadWrite, {"/a/", open}}, Permission{Access::kRead, {"/b/", "/b0"}},
          Permission{Access::kRead, tenant("a").range}, Permission{Access::kReadWrite, {"/c", {}}},
          Permission{Access::kReadWrite, {"/a", "/b"}}}) {
        ASSERT_TRUE(run(root_->role_grant_permission("a", wrong)).ok());
    }
    ASSERT_TRUE(run(root_->user_grant_role("a-user", "other")).ok());

    Result<bool> changed = run(ensure_tenant(*root_, tenant("a")));
    ASSERT_TRUE(changed.ok()) << changed.error().to_string();
    EXPECT_TRUE(*changed);
    Result<std::vector<Permission>> permissions = run(root_->role_get("a"));
    ASSERT_TRUE(permissions.ok());
    EXPECT_THAT(*permissions, ElementsAre(Permission{Access::kReadWrite, tenant("a").range}));
    Result<std::vector<std::string>> roles = run(root_->user_get("a-user"));
    ASSERT_TRUE(roles.ok());
    EXPECT_THAT(*roles, ElementsAre("a"));
    EXPECT_FALSE(*run(ensure_tenant(*root_, tenant("a"))));
}

TEST_P(TenancyTest, SealedKeysCanBeReadAndNotWritten) {
    ASSERT_TRUE(run(ensure_auth(*root_)).ok());
    ASSERT_TRUE(run(ensure_tenant(*root_, tenant("a"))).ok());
    std::unique_ptr<Client> a = backend_->connect("a-user");
    ASSERT_TRUE(run(a->put("/a/policies/mine", "rule")).ok());
    Tenant sealed = tenant("a");
    sealed.sealed = {KeyRange{"/a/policies/mine", std::string("/a/policies/mine\0", 17)},
                     KeyRange{"/a/webhooks/", "/a/webhooks0"}};
    Result<bool> changed = run(ensure_tenant(*root_, sealed));
    ASSERT_TRUE(changed.ok()) << changed.error().to_string();
    EXPECT_TRUE(*changed);
    EXPECT_FALSE(*run(ensure_tenant(*root_, sealed))) << "nothing is written when nothing changes";
    for (const char* key : {"/a/policies/mine", "/a/webhooks/x", "/a/webhooks/"}) {
        EXPECT_EQ(code_of(run(a->put(key, "none"))), Code::kPermissionDenied) << key;
        KeyRange one{key, {}};
        EXPECT_FALSE(run(a->delete_range(one)).ok()) << key;
    }
    KeyRange own = sealed.range;
    EXPECT_FALSE(run(a->delete_range(own)).ok()) << "nor together with others";
    for (const char* key :
         {"/a/policies/min", "/a/policies/mine2", "/a/pods/x", "/a/webhooks0", "/a/zzz"}) {
        EXPECT_TRUE(run(a->put(key, "yes")).ok()) << key;
    }
    Result<RangeResult> read = run(a->range(own, 0, false));
    ASSERT_TRUE(read.ok()) << read.error().to_string();
    EXPECT_EQ(read->items.size(), 6u);

    changed = run(ensure_tenant(*root_, tenant("a")));
    ASSERT_TRUE(changed.ok()) << changed.error().to_string();
    EXPECT_TRUE(*changed);
    Result<std::vector<Permission>> permissions = run(root_->role_get("a"));
    ASSERT_TRUE(permissions.ok());
    EXPECT_THAT(*permissions, ElementsAre(Permission{Access::kReadWrite, tenant("a").range}));
    EXPECT_TRUE(run(a->put("/a/policies/mine", "none")).ok());
}

TEST_P(TenancyTest, AdministratorsAreNoTenants) {
    ASSERT_TRUE(run(ensure_auth(*root_)).ok());
    for (const Tenant& bad :
         {Tenant{"root", "x", *tenant_range("x")}, Tenant{"x", "root", *tenant_range("x")}}) {
        Result<bool> made = run(ensure_tenant(*root_, bad));
        ASSERT_FALSE(made.ok());
        EXPECT_EQ(made.error().code(), Code::kFailedPrecondition);
        Result<int64_t> removed = run(remove_tenant(*root_, bad));
        EXPECT_FALSE(removed.ok());
    }
    ASSERT_TRUE(run(root_->user_add("admin")).ok());
    ASSERT_TRUE(run(root_->user_grant_role("admin", "root")).ok());
    Result<bool> made = run(ensure_tenant(*root_, Tenant{"admin", "x", *tenant_range("x")}));
    ASSERT_FALSE(made.ok());
    EXPECT_THAT(made.error().message(), HasSubstr("is an administrator"));
    EXPECT_THAT(*run(root_->user_get("admin")), ElementsAre("root"));
    EXPECT_FALSE(run(ensure_tenant(*root_, Tenant{})).ok());
}

Task<Result<void>> fill(Client& client, std::string prefix, int count) {
    for (int i = 0; i < count; ++i) {
        Result<void> put = co_await client.put(prefix + std::to_string(i), "value");
        if (!put.ok()) co_return std::move(put);
    }
    co_return Result<void>();
}

TEST_P(TenancyTest, RemovalLeavesNothingAndTouchesNoOther) {
    ASSERT_TRUE(run(ensure_auth(*root_)).ok());
    ASSERT_TRUE(run(ensure_tenant(*root_, tenant("a"))).ok());
    ASSERT_TRUE(run(ensure_tenant(*root_, tenant("a-b"))).ok());
    const int count = static_cast<int>(kDeleteBatchSize) * 2 + 5;
    ASSERT_TRUE(run(fill(*root_, "/a/", count)).ok());
    ASSERT_TRUE(run(fill(*root_, "/a-b/", 3)).ok());
    std::unique_ptr<Client> a = backend_->connect("a-user");

    Result<int64_t> removed = run(remove_tenant(*root_, tenant("a")));
    ASSERT_TRUE(removed.ok()) << removed.error().to_string();
    EXPECT_EQ(*removed, count);
    EXPECT_EQ(run(root_->range(tenant("a").range, 1, true))->count, 0);
    EXPECT_EQ(run(root_->range(tenant("a-b").range, 1, true))->count, 3);
    EXPECT_FALSE(run(a->put("/a/late", "1")).ok());
    EXPECT_EQ(run(root_->user_get("a-user")).error().reason(), "UserNotFound");
    EXPECT_EQ(run(root_->role_get("a")).error().reason(), "RoleNotFound");
    EXPECT_THAT(*run(root_->user_get("a-b-user")), ElementsAre("a-b"));
    removed = run(remove_tenant(*root_, tenant("a")));
    ASSERT_TRUE(removed.ok()) << "again, with nothing left";
    EXPECT_EQ(*removed, 0);
}

TEST_P(TenancyTest, ErrorsAreMapped) {
    ASSERT_TRUE(run(ensure_auth(*root_)).ok());
    ASSERT_TRUE(run(root_->user_add("u")).ok());
    ASSERT_TRUE(run(root_->role_add("r")).ok());
    auto reason = [&](Task<Result<void>> task) {
        Result<void> result = run(std::move(task));
        return result.ok()
                   ? std::string("ok")
                   : std::string(code_name(result.error().code())) + " " + result.error().reason();
    };
    EXPECT_EQ(reason(root_->user_add("u")), "AlreadyExists UserExists");
    EXPECT_EQ(reason(root_->role_add("r")), "AlreadyExists RoleExists");
    EXPECT_EQ(reason(root_->user_delete("x")), "NotFound UserNotFound");
    EXPECT_EQ(reason(root_->role_delete("x")), "NotFound RoleNotFound");
    EXPECT_EQ(reason(root_->user_grant_role("x", "r")), "NotFound UserNotFound");
    EXPECT_EQ(reason(root_->user_grant_role("u", "x")), "NotFound RoleNotFound");
    EXPECT_EQ(reason(root_->user_revoke_role("u", "r")), "NotFound RoleNotGranted");
    EXPECT_EQ(reason(root_->role_revoke_permission("r", KeyRange{"/x", "/y"})),
              "NotFound PermissionNotGranted");
    EXPECT_EQ(reason(root_->user_grant_role("u", "r")), "ok");
    EXPECT_EQ(reason(root_->user_grant_role("u", "r")), "ok") << "granting twice is no error";
    std::unique_ptr<Client> user = backend_->connect("u");
    EXPECT_EQ(reason(user->user_add("y")), "PermissionDenied PermissionDenied");
    EXPECT_EQ(reason(user->compact(1)), "PermissionDenied PermissionDenied");
    EXPECT_EQ(reason(user->defragment(0)), "PermissionDenied PermissionDenied");
    EXPECT_EQ(reason(user->disarm(Alarm{0, AlarmType::kNoSpace})),
              "PermissionDenied PermissionDenied");
    Result<std::vector<std::string>> own = run(user->user_get("u"));
    ASSERT_TRUE(own.ok()) << "a user may look at itself";
    EXPECT_THAT(*own, ElementsAre("r"));
}

TEST_P(TenancyTest, HealthOfASoundServer) {
    Result<Health> before = run(check_health(backend_->loop(), *root_));
    ASSERT_TRUE(before.ok()) << before.error().to_string();
    EXPECT_FALSE(before->auth_enabled);
    ASSERT_TRUE(run(ensure_auth(*root_)).ok());
    Result<Health> health = run(check_health(backend_->loop(), *root_));
    ASSERT_TRUE(health.ok()) << health.error().to_string();
    EXPECT_TRUE(health->auth_enabled);
    EXPECT_TRUE(health->keeps_tenants_apart) << health->oldest_version;
    EXPECT_FALSE(health->no_space);
    EXPECT_FALSE(health->corrupt);
    ASSERT_EQ(health->endpoints.size(), 1u);
    EXPECT_GT(health->endpoints[0].status.db_size_quota, 0);
    EXPECT_NE(health->endpoints[0].status.leader_id, 0u);
    std::unique_ptr<Client> stranger = backend_->connect("stranger");
    EXPECT_FALSE(run(check_health(backend_->loop(), *stranger)).ok()) << "needs the administrator";
    EXPECT_EQ(run(root_->members())->size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(All, TenancyTest, testing::ValuesIn(backends()), [](const auto& param) {
    std::string name = param.param;
    for (char& c : name) {
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
    }
    return name;
});

// --- faults, on the model

TEST(TenancyFaultsTest, ConvergesThroughFailuresAtEveryWrite) {
    const Tenant tenant{"a-user", "a", *tenant_range("a")};
    for (uint64_t seed = 0; seed < 300; ++seed) {
        async::SimLoop loop(seed);
        ModelEtcd model(loop);
        std::unique_ptr<Client> root = model.connect("root");
        model.data["/a/1"] = model.data["/b/1"] = "x";
        model.roles["a"] = {Permission{Access::kReadWrite, {"/a/", std::string(1, '\0')}}};
        auto sometimes = [&loop](std::string_view) -> std::optional<Error> {
            if (loop.random() % 4 != 0) return std::nullopt;
            return unavailable("connection lost");
        };
        model.fault = {sometimes, sometimes};
        auto run_until_ok = [&]<class T>(Task<Result<T>> (*make)(Client&, Tenant)) {
            for (int i = 0; i < 200; ++i) {
                bool ok = false;
                async::TaskGroup group(loop);
                struct Keep {
                    static Task<void> run(Task<Result<T>> task, bool* out) {
                        Result<T> result = co_await task;
                        *out = result.ok();
                    }
                };
                group.spawn(Keep::run(make(*root, tenant), &ok));
                loop.run_until([&] { return group.size() == 0; }, std::chrono::hours(1));
                if (ok) return;
            }
            ADD_FAILURE() << "no convergence, seed " << seed;
        };
        run_until_ok(&ensure_tenant);
        EXPECT_THAT(model.roles["a"], ElementsAre(Permission{Access::kReadWrite, tenant.range}))
            << seed;
        EXPECT_THAT(model.users["a-user"], ElementsAre("a")) << seed;
        run_until_ok(&remove_tenant);
        EXPECT_THAT(model.users, IsEmpty()) << seed;
        EXPECT_THAT(model.roles, IsEmpty()) << seed;
        EXPECT_EQ(model.data.size(), 1u) << seed;
        EXPECT_TRUE(model.data.contains("/b/1"));
    }
}

TEST(TenancyFaultsTest, AFullModelRecovers) {
    async::SimLoop loop(1);
    ModelEtcd model(loop);
    model.quota = 100;
    std::unique_ptr<Client> root = model.connect("root");
    auto run = [&]<class T>(Task<Result<T>> task) {
        std::optional<Result<T>> slot;
        struct Keep {
            static Task<void> run(Task<Result<T>> inner, std::optional<Result<T>>* out) {
                Result<T> result = co_await inner;
                out->emplace(std::move(result));
            }
        };
        async::TaskGroup group(loop);
        group.spawn(Keep::run(std::move(task), &slot));
        loop.run_until([&] { return group.size() == 0; }, std::chrono::hours(1));
        return std::move(*slot);
    };
    Result<void> put;
    for (int i = 0; i < 20 && put.ok(); ++i) put = run(root->put("/a/k", std::string(20, 'x')));
    ASSERT_FALSE(put.ok());
    EXPECT_EQ(put.error().code(), Code::kResourceExhausted);
    EXPECT_EQ(put.error().reason(), "NoSpace");
    EXPECT_TRUE(run(check_health(loop, *root))->no_space);
    Result<SpaceRelief> relief = run(relieve_space(*root));
    ASSERT_TRUE(relief.ok());
    EXPECT_TRUE(relief->alarm_cleared);
    EXPECT_TRUE(run(root->put("/a/k", "y")).ok());
}

}  // namespace
}  // namespace basalt::etcd
