#include "controller/webhook.h"

#include <gtest/gtest.h>

#include "controller/router_fixture_test.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/patch.h"

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using kube::Value;

Value parse(std::string_view text) { return data::parse_json(text).value(); }

async::Task<Result<AdmissionResponse>> answer(Result<AdmissionResponse> response) {
    co_return std::move(response);
}

class WebhookTest : public RouterFixture {
 protected:
    Value review(const std::string& path, const Value& object) {
        Value document =
            parse(R"({"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{
            "uid":"u1","operation":"CREATE","kind":{"group":"g.io","version":"v1","kind":"Thing"},
            "resource":{"group":"g.io","version":"v1","resource":"things"},"namespace":"n","name":"a",
            "userInfo":{"username":"me"}}})");
        document.at("request").set("object", object);
        Result<net::HttpServerResponse> response = send(path, data::to_json(document));
        EXPECT_TRUE(response.ok());
        EXPECT_EQ(response->status, 200) << response->body;
        return parse(response->body)["response"];
    }
};

TEST_F(WebhookTest, IsCountedAndTimed) {
    Metrics metrics;
    add_admission_route(router, "/yes", [](const AdmissionRequest&) { return answer(admit()); });
    add_admission_route(router, "/broken",
                        [](const AdmissionRequest&) { return answer(unavailable("away")); });
    measure_webhooks(router, loop, metrics);
    EXPECT_TRUE(review("/yes", parse("{}"))["allowed"].as_bool());
    EXPECT_TRUE(send("/yes", "not a review").error().code() == Code::kInvalidArgument);
    const std::string text = metrics.to_text();
    for (const char* line :
         {"controller_runtime_webhook_requests_total{webhook=\"/yes\",code=\"200\"} 1",
          "controller_runtime_webhook_requests_total{webhook=\"/yes\",code=\"400\"} 1",
          "controller_runtime_webhook_latency_seconds_count{webhook=\"/yes\"} 2",
          "controller_runtime_webhook_latency_seconds_count{webhook=\"/broken\"} 0",
          "controller_runtime_webhook_requests_in_flight{webhook=\"/yes\"} 0"}) {
        EXPECT_NE(text.find(line), std::string::npos) << line << " in\n" << text;
    }
}

TEST_F(WebhookTest, MutatesByTheDifference) {
    add_admission_route(router, "/mutate", [](AdmissionRequest request) {
        Value object = request.object;
        object.at("spec").set("replicas", 3);
        AdmissionResponse response = admit_as(std::move(object));
        response.warnings.push_back("careful, " + request.user_info["username"].str());
        return answer(std::move(response));
    });
    const Value object =
        parse(R"({"kind":"Thing","metadata":{"name":"a"},"spec":{"replicas":1,"x":"y"}})");
    const Value response = review("/mutate", object);
    EXPECT_TRUE(response["allowed"].as_bool());
    EXPECT_EQ(response["uid"].as_string(), "u1");
    EXPECT_EQ(response["patchType"].as_string(), "JSONPatch");
    EXPECT_EQ(response["warnings"][0].as_string(), "careful, me");
    const Value patch = parse(data::base64_decode(response["patch"].as_string()).value());
    const Value patched = data::apply_json_patch(object, patch).value();
    EXPECT_EQ(patched["spec"]["replicas"].as_int(), 3);
    EXPECT_EQ(patched["spec"]["x"].as_string(), "y");
    // Nothing to change, no patch.
    EXPECT_FALSE(review("/mutate", patched).contains("patch"));
}

TEST_F(WebhookTest, DenialsNameFields) {
    add_admission_route(router, "/validate", [](AdmissionRequest request) {
        FieldError error;
        error.field = "spec.replicas";
        error.message = "must not be negative";
        return answer(deny_invalid(request, {error}));
    });
    const Value response = review("/validate", parse("{}"));
    EXPECT_FALSE(response["allowed"].as_bool());
    EXPECT_EQ(response["status"]["code"].as_int(), 422);
    EXPECT_EQ(response["status"]["message"].as_string(),
              "Thing.g.io \"a\" is invalid: spec.replicas: must not be negative");
    EXPECT_EQ(response["status"]["details"]["causes"][0]["field"].as_string(), "spec.replicas");
}

TEST_F(WebhookTest, ErrorsDenyOrLeaveItToThePolicy) {
    add_admission_route(router, "/bad",
                        [](AdmissionRequest) { return answer(invalid_argument("no")); });
    add_admission_route(router, "/down",
                        [](AdmissionRequest) { return answer(unavailable("down")); });
    EXPECT_FALSE(review("/bad", parse("{}"))["allowed"].as_bool());
    const std::string body =
        R"({"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u"}})";
    EXPECT_EQ(send("/down", body)->status, 500);
    for (const char* malformed :
         {"{", "[]", "{}", R"({"kind":"AdmissionReview","request":{"uid":"u"}})"}) {
        const Result<net::HttpServerResponse> response = send("/bad", malformed);
        ASSERT_FALSE(response.ok()) << malformed;
        EXPECT_EQ(response.error().code(), Code::kInvalidArgument);
    }
    EXPECT_EQ(send("/none", body)->status, 404);
}

TEST_F(WebhookTest, Converts) {
    add_conversion_route(router, "/convert",
                         [](const Value& object, const std::string& version) -> Result<Value> {
                             if (object["bad"].as_bool()) return invalid_argument("cannot");
                             Value converted = object;
                             converted.set("converted", version);
                             return converted;
                         });
    const auto convert = [&](const char* objects) {
        const Result<net::HttpServerResponse> response =
            send("/convert",
                 std::string(R"({"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview",
                 "request":{"uid":"u","desiredAPIVersion":"g.io/v2","objects":)") +
                     objects + "}}");
        return parse(response->body)["response"];
    };
    const Value good = convert(R"([{"apiVersion":"g.io/v1"},{"apiVersion":"g.io/v2"}])");
    EXPECT_EQ(good["result"]["status"].as_string(), "Success");
    EXPECT_EQ(good["convertedObjects"][0]["apiVersion"].as_string(), "g.io/v2");
    EXPECT_EQ(good["convertedObjects"][0]["converted"].as_string(), "g.io/v2");
    EXPECT_FALSE(good["convertedObjects"][1].contains("converted"));
    const Value bad =
        convert(R"([{"apiVersion":"g.io/v1","bad":true,"kind":"T","metadata":{"name":"x"}}])");
    EXPECT_EQ(bad["result"]["status"].as_string(), "Failed");
    EXPECT_EQ(bad["result"]["message"].as_string(), "T x: cannot");
}

}  // namespace
}  // namespace basalt::controller
