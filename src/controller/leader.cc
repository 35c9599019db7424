#include "controller/leader.h"

#include <algorithm>

#include <fmt/format.h>

#include "async/wait.h"
#include "base/log.h"
#include "data/json.h"

namespace basalt::controller {

using kube::Value;

namespace {

int64_t whole_seconds(Duration duration) {
    return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

}  // namespace

LeaderElector::LeaderElector(kube::Client& client, Options options)
    : client_(client), options_(std::move(options)) {
    BASALT_ASSERT(options_.lease_duration > options_.renew_deadline);
    BASALT_ASSERT(options_.renew_deadline > options_.retry_period);
}

Result<void> LeaderElector::check() const {
    if (leading_ && client_.loop().now() < renewed_at_ + options_.renew_deadline) return {};
    return failed_precondition("this process does not lead");
}

void LeaderElector::set_leading(bool leading) {
    if (leading_ == leading) return;
    leading_ = leading;
    log_info(leading ? "became leader" : "no longer leader",
             {{"lease", options_.name}, {"identity", options_.identity}});
    if (options_.on_change) options_.on_change(leading);
}

void LeaderElector::observe(const Value& lease) {
    lease_ = lease;
    std::string record = data::to_canonical_json(lease["spec"]);
    if (record == observed_record_) return;
    observed_record_ = std::move(record);
    observed_at_ = client_.loop().now();
    observed_holder_ = lease["spec"]["holderIdentity"].str();
    const int64_t seconds =
        lease["spec"]["leaseDurationSeconds"].as_int(whole_seconds(options_.lease_duration));
    observed_duration_ = std::chrono::seconds(std::clamp<int64_t>(seconds, 1, 3600));
}

Value LeaderElector::new_spec(const Value& old) const {
    const std::string now = format_rfc3339_micro(client_.loop().wall_now());
    const bool ours = old["holderIdentity"].as_string() == options_.identity;
    const int64_t transitions = old["leaseTransitions"].as_int();
    Value spec = old;
    spec.set("holderIdentity", options_.identity);
    spec.set("leaseDurationSeconds", whole_seconds(options_.lease_duration));
    spec.set("acquireTime",
             ours && !old["acquireTime"].is_null() ? old["acquireTime"] : Value(now));
    spec.set("renewTime", now);
    spec.set("leaseTransitions", ours || old.is_null() ? transitions : transitions + 1);
    return spec;
}

async::Task<Result<bool>> LeaderElector::write_lease(Value lease, bool exists) {
    // Counted from before the request: the server may have acted at any moment of it.
    const TimePoint started = client_.loop().now();
    kube::WriteOptions write;
    write.timeout = options_.renew_deadline / 2;
    Result<Value> written(Value{});
    if (exists) {
        written = co_await client_.replace(kube::resources::leases(), std::move(lease), write);
    } else {
        written = co_await client_.create(kube::resources::leases(), std::move(lease), write);
    }
    if (!written.ok()) {
        lease_ = Value();  // What the server holds now is to be read.
        const Code code = written.error().code();
        if (code == Code::kAborted || code == Code::kAlreadyExists) co_return false;
        co_return std::move(written).error();
    }
    observe(*written);
    renewed_at_ = started;
    co_return true;
}

/// True when the lease is ours now.
async::Task<Result<bool>> LeaderElector::try_acquire_or_renew() {
    async::Loop& loop = client_.loop();
    const bool renew_blindly = leading_ && !lease_.is_null();
    if (!renew_blindly) {
        kube::GetOptions get;
        get.timeout = options_.renew_deadline / 2;
        const kube::ObjectKey key(options_.ns, options_.name);
        Result<Value> lease = co_await client_.get(kube::resources::leases(), key, get);
        if (!lease.ok() && lease.error().code() != Code::kNotFound)
            co_return std::move(lease).error();
        if (!lease.ok()) {
            Value created = kube::make_object(kube::resources::leases(), key);
            created.set("spec", new_spec(Value()));
            Result<bool> won = co_await write_lease(std::move(created), false);
            co_return std::move(won);
        }
        observe(*lease);
        const bool ours = observed_holder_ == options_.identity;
        if (!ours && !observed_holder_.empty() && loop.now() < observed_at_ + observed_duration_)
            co_return false;
    }
    Value update = lease_;
    update.set("spec", new_spec(lease_["spec"]));
    Result<bool> won = co_await write_lease(std::move(update), true);
    co_return std::move(won);
}

async::Task<Result<void>> LeaderElector::acquire() {
    async::Loop& loop = client_.loop();
    for (;;) {
        Result<bool> won = co_await try_acquire_or_renew();
        if (won.ok() && *won) {
            set_leading(true);
            co_return Result<void>();
        }
        if (!won.ok()) {
            if (won.error().code() == Code::kCancelled) co_return std::move(won).error();
            log_warn("cannot get the lease",
                     {{"lease", options_.name}, {"error", won.error().to_string()}});
        }
        // Candidates that started together drift apart.
        const Duration pause =
            options_.retry_period +
            options_.retry_period * static_cast<int64_t>(loop.random() % 1200) / 1000;
        Result<void> slept = co_await async::sleep_for(loop, pause);
        if (!slept.ok()) co_return std::move(slept);
    }
}

async::Task<Result<void>> LeaderElector::hold() {
    async::Loop& loop = client_.loop();
    while (leading_) {
        const TimePoint deadline = renewed_at_ + options_.renew_deadline;
        Result<void> slept = co_await async::sleep_until(
            loop, std::min(loop.now() + options_.retry_period, deadline));
        if (!slept.ok()) co_return std::move(slept);
        if (loop.now() >= deadline) break;
        async::Task<Result<bool>> renewing = try_acquire_or_renew();
        Result<bool> renewed = co_await async::with_deadline(loop, deadline, std::move(renewing));
        if (renewed.ok() && *renewed) continue;
        if (!renewed.ok() && renewed.error().code() == Code::kCancelled)
            co_return std::move(renewed).error();
        const bool taken =
            renewed.ok() && !observed_holder_.empty() && observed_holder_ != options_.identity;
        if (taken && !lease_.is_null()) break;
        log_warn("cannot renew the lease",
                 {{"lease", options_.name},
                  {"error", renewed.ok() ? "conflict" : renewed.error().to_string()}});
    }
    set_leading(false);
    co_return failed_precondition(fmt::format("lost the lease {}/{}", options_.ns, options_.name));
}

async::Task<Result<void>> LeaderElector::release_now() {
    if (!options_.release_on_stop || !leading_ || lease_.is_null()) co_return Result<void>();
    Value lease = lease_;
    const std::string now = format_rfc3339_micro(client_.loop().wall_now());
    Value& spec = lease.at("spec");
    spec.set("holderIdentity", "");
    spec.set("leaseDurationSeconds", 1);
    spec.set("renewTime", now);
    spec.set("acquireTime", now);
    set_leading(false);
    kube::WriteOptions write;
    write.timeout = options_.retry_period;
    Result<Value> written =
        co_await client_.replace(kube::resources::leases(), std::move(lease), write);
    lease_ = Value();
    if (!written.ok()) co_return std::move(written).error();
    observe(*written);
    co_return Result<void>();
}

async::Task<Result<void>> LeaderElector::release() {
    Result<void> released = co_await async::shielded(client_.loop(), release_now());
    set_leading(false);
    co_return std::move(released);
}

std::string make_identity(async::Loop& loop, std::string_view host_name) {
    return fmt::format("{}_{:08x}", host_name, static_cast<uint32_t>(loop.random()));
}

}  // namespace basalt::controller
