#include "controller/metrics.h"

#include <gtest/gtest.h>

namespace basalt::controller {
namespace {

TEST(Metrics, TextFormat) {
    Metrics metrics;
    metrics.counter("b_total", "Things.", {{"kind", "x\"y\\z\n"}}).add(2);
    metrics.gauge("a", "A gauge\nof two lines.").set(1.5);
    Histogram& histogram = metrics.histogram("c_seconds", "Time.", {0.1, 1}, {{"l", "v"}});
    histogram.observe(0.05);
    histogram.observe(0.1);
    histogram.observe(5);
    EXPECT_EQ(metrics.to_text(),
              "# HELP a A gauge\\nof two lines.\n# TYPE a gauge\na 1.5\n"
              "# HELP b_total Things.\n# TYPE b_total counter\nb_total{kind=\"x\\\"y\\\\z\\n\"} 2\n"
              "# HELP c_seconds Time.\n# TYPE c_seconds histogram\n"
              "c_seconds_bucket{l=\"v\",le=\"0.1\"} 2\nc_seconds_bucket{l=\"v\",le=\"1\"} 2\n"
              "c_seconds_bucket{l=\"v\",le=\"+Inf\"} 3\nc_seconds_sum{l=\"v\"} "
              "5.15\nc_seconds_count{l=\"v\"} 3\n");
    metrics.remove("b_total", {});
    EXPECT_EQ(metrics.to_text().find("b_total"), std::string::npos);
}

TEST(Metrics, InstrumentsAreShared) {
    Metrics metrics;
    metrics.counter("a_total", "A.", {{"x", "1"}}).add();
    metrics.counter("a_total", "A.", {{"x", "1"}}).add();
    metrics.counter("a_total", "A.", {{"x", "2"}}).add();
    EXPECT_EQ(metrics.counter("a_total", "A.", {{"x", "1"}}).value(), 2);
    metrics.remove("a_total", {{"x", "2"}});
    EXPECT_EQ(metrics.counter("a_total", "A.", {{"x", "2"}}).value(), 0);
}

TEST(Metrics, ProcessAndRequests) {
    Metrics metrics;
    add_process_metrics(metrics, WallTime(std::chrono::seconds(5)));
    metrics.request_observer()("GET", "host", 200, std::chrono::milliseconds(3));
    const std::string text = metrics.to_text();
    EXPECT_NE(
        text.find("rest_client_requests_total{code=\"200\",host=\"host\",method=\"GET\"} 1\n"),
        std::string::npos);
    EXPECT_NE(text.find("process_start_time_seconds 5\n"), std::string::npos);
    EXPECT_NE(text.find("# TYPE process_cpu_seconds_total counter\n"), std::string::npos);
    EXPECT_GT(metrics.gauge("process_resident_memory_bytes", "").value(), 1e6);
}

}  // namespace
}  // namespace basalt::controller
