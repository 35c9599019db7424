#include "controller/metrics.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/strings.h"

namespace basalt::controller {
namespace {

enum InstrumentType : int { kCounterType, kGaugeType, kHistogramType };

std::string escape_label(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        if (c == '\\' || c == '"') escaped += '\\';
        if (c == '\n') {
            escaped += "\\n";
        } else {
            escaped += c;
        }
    }
    return escaped;
}

std::string labels_text(const Labels& labels) {
    std::string text;
    for (const auto& [name, value] : labels) {
        if (!text.empty()) text += ',';
        text += fmt::format("{}=\"{}\"", name, escape_label(value));
    }
    return text;
}

std::string number_text(double value) {
    if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
    if (std::isnan(value)) return "NaN";
    if (value == std::floor(value) && std::abs(value) < 1e15)
        return std::to_string(static_cast<int64_t>(value));
    return fmt::format("{}", value);
}

void append_line(std::string& out, const std::string& name, const std::string& labels,
                 double value) {
    out += name;
    if (!labels.empty()) out += fmt::format("{{{}}}", labels);
    out += ' ';
    out += number_text(value);
    out += '\n';
}

void append_histogram(std::string& out, const std::string& name, const std::string& labels,
                      const Histogram& histogram) {
    const std::string comma = labels.empty() ? "" : ",";
    uint64_t cumulative = 0;
    for (size_t i = 0; i < histogram.bucket_counts().size(); ++i) {
        cumulative += histogram.bucket_counts()[i];
        const std::string bound = i < histogram.bounds().size() ? number_text(histogram.bounds()[i])
                                                                : std::string("+Inf");
        append_line(out, name + "_bucket", fmt::format("{}{}le=\"{}\"", labels, comma, bound),
                    static_cast<double>(cumulative));
    }
    append_line(out, name + "_sum", labels, histogram.sum());
    append_line(out, name + "_count", labels, static_cast<double>(histogram.count()));
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::observe(double value) {
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value);
    ++counts_[static_cast<size_t>(bucket - bounds_.begin())];
    ++count_;
    sum_ += value;
}

std::vector<double> reconcile_time_bounds() {
    return {0.005, 0.01, 0.025, 0.05, 0.1,  0.15, 0.2,  0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6,
            0.7,   0.8,  0.9,   1.0,  1.25, 1.5,  1.75, 2.0,  2.5, 3.0,  3.5, 4.0,  4.5, 5,
            6,     7,    8,     9,    10,   15,   20,   25,   30,  40,   50,  60};
}

std::vector<double> decade_bounds(int first, int last) {
    std::vector<double> bounds;
    for (int exponent = first; exponent <= last; ++exponent)
        bounds.push_back(std::pow(10.0, exponent));
    return bounds;
}

struct Metrics::Family {
    struct Instrument {
        Labels labels;
        Counter counter;
        Gauge gauge;
        std::unique_ptr<Histogram> histogram;
    };
    int type;
    std::string help;
    std::map<std::string, std::unique_ptr<Instrument>> instruments;

    Instrument& get(const Labels& labels) {
        std::unique_ptr<Instrument>& instrument = instruments[labels_text(labels)];
        if (!instrument) {
            instrument = std::make_unique<Instrument>();
            instrument->labels = labels;
        }
        return *instrument;
    }
};

Metrics::Metrics() = default;
Metrics::~Metrics() = default;

Metrics::Family& Metrics::family(const std::string& name, const std::string& help, int type) {
    std::unique_ptr<Family>& family = families_[name];
    if (!family) family = std::make_unique<Family>(Family{type, help, {}});
    BASALT_ASSERT(family->type == type);
    return *family;
}

Counter& Metrics::counter(const std::string& name, const std::string& help, const Labels& labels) {
    return family(name, help, kCounterType).get(labels).counter;
}

Gauge& Metrics::gauge(const std::string& name, const std::string& help, const Labels& labels) {
    return family(name, help, kGaugeType).get(labels).gauge;
}

Histogram& Metrics::histogram(const std::string& name, const std::string& help,
                              std::vector<double> bounds, const Labels& labels) {
    Family::Instrument& instrument = family(name, help, kHistogramType).get(labels);
    if (!instrument.histogram)
        instrument.histogram = std::make_unique<Histogram>(std::move(bounds));
    return *instrument.histogram;
}

void Metrics::remove(const std::string& name, const Labels& labels) {
    const auto found = families_.find(name);
    if (found == families_.end()) return;
    std::erase_if(found->second->instruments, [&](const auto& entry) {
        const Labels& own = entry.second->labels;
        return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
            return std::find(own.begin(), own.end(), label) != own.end();
        });
    });
}

uint64_t Metrics::on_scrape(std::function<void()> update) {
    updates_.emplace(next_update_, std::move(update));
    return next_update_++;
}

std::string Metrics::to_text() {
    for (const auto& [id, update] : updates_) update();
    constexpr const char* kTypeNames[] = {"counter", "gauge", "histogram"};
    std::string out;
    for (const auto& [name, family] : families_) {
        if (family->instruments.empty()) continue;
        out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name,
                           replace_all(replace_all(family->help, "\\", "\\\\"), "\n", "\\n"), name,
                           kTypeNames[family->type]);
        for (const auto& [labels, instrument] : family->instruments) {
            if (family->type == kCounterType)
                append_line(out, name, labels, instrument->counter.value());
            if (family->type == kGaugeType)
                append_line(out, name, labels, instrument->gauge.value());
            if (family->type == kHistogramType)
                append_histogram(out, name, labels, *instrument->histogram);
        }
    }
    return out;
}

kube::RequestObserver Metrics::request_observer() {
    return [this](std::string_view method, std::string_view host, int status, Duration took) {
        const std::string verb(method);
        const std::string code = status == 0 ? "<error>" : std::to_string(status);
        counter("rest_client_requests_total",
                "Requests to the API server by method, host and status.",
                {{"code", code}, {"host", std::string(host)}, {"method", verb}})
            .add();
        histogram("rest_client_request_duration_seconds", "Time until the header of the answer.",
                  {0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60},
                  {{"host", std::string(host)}, {"verb", verb}})
            .observe(std::chrono::duration<double>(took).count());
    };
}

namespace {

/// Fields of /proc/self/stat after the command in parentheses, which may hold spaces.
std::vector<std::string> read_process_stat() {
    std::ifstream file("/proc/self/stat");
    std::string line;
    std::getline(file, line);
    std::vector<std::string> fields;
    const size_t end = line.rfind(')');
    if (end == std::string::npos) return fields;
    for (std::string_view field : split(trim(std::string_view(line).substr(end + 1)), ' '))
        fields.emplace_back(field);
    return fields;
}

double field_number(const std::vector<std::string>& fields, size_t index) {
    if (index >= fields.size()) return 0;
    return static_cast<double>(parse_number<uint64_t>(fields[index]).value_or(0));
}

}  // namespace

void add_process_metrics(Metrics& metrics, WallTime started_at) {
    metrics.gauge("process_start_time_seconds", "Start of the process since the epoch.")
        .set(static_cast<double>(started_at.time_since_epoch().count()) / 1000);
    Gauge& memory = metrics.gauge("process_resident_memory_bytes", "Resident memory.");
    Counter& cpu = metrics.counter("process_cpu_seconds_total", "User and system CPU time.");
    Gauge& files = metrics.gauge("process_open_fds", "Open file descriptors.");
    metrics.on_scrape([&memory, &cpu, &files] {
        // man 5 proc: utime and stime are fields 14 and 15, rss is 24; ours start behind the
        // second.
        const std::vector<std::string> fields = read_process_stat();
        cpu.set_total((field_number(fields, 11) + field_number(fields, 12)) /
                      static_cast<double>(sysconf(_SC_CLK_TCK)));
        memory.set(field_number(fields, 21) * static_cast<double>(sysconf(_SC_PAGESIZE)));
        std::error_code error;
        std::filesystem::directory_iterator entries("/proc/self/fd", error);
        if (!error) files.set(static_cast<double>(std::distance(begin(entries), end(entries))));
    });
}

}  // namespace basalt::controller
