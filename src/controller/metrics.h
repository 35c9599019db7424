// Prometheus metrics: a registry and its text format (version 0.0.4).
//
//     Counter& total = metrics.counter("controller_runtime_reconcile_total", "Reconciles.",
//                                      {{"controller", "tcp"}, {"result", "success"}});
//     total.add();
//
// Instruments are made once and kept; asking again gives the same one. A name has one type and one
// help text. One loop: values are plain numbers. Labels with unbounded values (names of objects)
// are the caller's to avoid; remove() takes an instrument away when its object is gone, which
// invalidates references to it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "kube/client.h"

namespace basalt::controller {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
    void add(double amount = 1) { value_ += amount; }
    /// For a count that is kept elsewhere.
    void set_total(double value) { value_ = value; }
    double value() const { return value_; }

 private:
    double value_ = 0;
};

class Gauge {
 public:
    void set(double value) { value_ = value; }
    void add(double amount) { value_ += amount; }
    double value() const { return value_; }

 private:
    double value_ = 0;
};

class Histogram {
 public:
    explicit Histogram(std::vector<double> bounds);
    void observe(double value);
    uint64_t count() const { return count_; }
    double sum() const { return sum_; }
    const std::vector<double>& bounds() const { return bounds_; }
    const std::vector<uint64_t>& bucket_counts() const {
        return counts_;
    }  ///< Not cumulative; the last is +Inf.

 private:
    std::vector<double> bounds_;
    std::vector<uint64_t> counts_;
    uint64_t count_ = 0;
    double sum_ = 0;
};

/// Seconds of a reconcile, controller-runtime's buckets.
std::vector<double> reconcile_time_bounds();
/// 10^first … 10^last.
std::vector<double> decade_bounds(int first, int last);

class Metrics {
 public:
    Metrics();
    ~Metrics();

    Counter& counter(const std::string& name, const std::string& help, const Labels& labels = {});
    Gauge& gauge(const std::string& name, const std::string& help, const Labels& labels = {});
    Histogram& histogram(const std::string& name, const std::string& help,
                         std::vector<double> bounds, const Labels& labels = {});
    /// Takes all instruments of `name` away whose labels include these.
    void remove(const std::string& name, const Labels& labels);
    /// Called at each scrape, to set what costs something to compute. Whoever `update` refers to
    /// outlives this or removes it.
    uint64_t on_scrape(std::function<void()> update);
    void remove_scrape(uint64_t id) { updates_.erase(id); }

    /// Sorted by name and labels.
    std::string to_text();

    /// For Client::Options::observer: rest_client_requests_total and
    /// rest_client_request_duration_seconds.
    kube::RequestObserver request_observer();

 private:
    struct Family;
    std::map<std::string, std::unique_ptr<Family>> families_;
    std::map<uint64_t, std::function<void()>> updates_;
    uint64_t next_update_ = 1;
    Family& family(const std::string& name, const std::string& help, int type);
};

/// process_resident_memory_bytes, process_cpu_seconds_total, process_open_fds,
/// process_start_time_seconds, read at each scrape.
void add_process_metrics(Metrics& metrics, WallTime started_at);

}  // namespace basalt::controller
