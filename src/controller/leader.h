// Leader election by a Lease (coordination.k8s.io/v1), compatible with client-go's and kubectl's
// reading of it.
//
// A candidate reads the lease every retry period; when the holder has not changed it for a whole
// lease duration as seen on the candidate's own clock (never comparing clocks of machines), it
// takes it with an optimistic write. The leader renews every retry period. When renewing has failed
// for the renew deadline, leadership is lost although the lease still runs for a while (15 s - 10
// s): in that time all work must stop. check() is the fence for writes, closed from the renew
// deadline on (Client::Options::write_guard, etcd::Client::set_write_guard()); give the elector a
// client of its own without a guard.
//
// Defaults 15 s, 10 s, 2 s as in client-go. One loop.
#pragma once

#include <functional>
#include <string>

#include "kube/client.h"

namespace basalt::controller {

class LeaderElector {
 public:
    struct Options {
        Options() = default;
        std::string ns;
        std::string name;
        std::string identity;  ///< Unique for each process: host name and random bits.
        Duration lease_duration = std::chrono::seconds(15);
        Duration renew_deadline = std::chrono::seconds(10);
        Duration retry_period = std::chrono::seconds(2);
        /// Give the lease up when hold() is cancelled, so that the next one starts at once.
        bool release_on_stop = true;
        /// Called when leadership is won, and when it is lost or given up.
        std::function<void(bool leading)> on_change;
    };

    LeaderElector(kube::Client& client, Options options);

    /// Returns once this process leads; an error only when cancelled.
    async::Task<Result<void>> acquire();
    /// Renews until leadership is lost (FailedPrecondition) or the scope is cancelled (Cancelled).
    /// The caller stops its work in either case, then calls release().
    async::Task<Result<void>> hold();
    /// Empties the lease if it is still ours. Call after all work has ended. Runs even when
    /// cancelled.
    async::Task<Result<void>> release();

    /// Whether a write may start: FailedPrecondition unless this process leads, and from the renew
    /// deadline on.
    Result<void> check() const;
    /// Who leads, as last observed.
    const std::string& observed_holder() const { return observed_holder_; }

 private:
    async::Task<Result<bool>> try_acquire_or_renew();
    async::Task<Result<bool>> write_lease(kube::Value lease, bool exists);
    async::Task<Result<void>> release_now();
    kube::Value new_spec(const kube::Value& old) const;
    void observe(const kube::Value& lease);
    void set_leading(bool leading);

    kube::Client& client_;
    Options options_;
    bool leading_ = false;
    TimePoint renewed_at_{};
    kube::Value lease_;  ///< As the server answered last; null when it is to be read again.
    std::string observed_holder_;
    std::string observed_record_;  ///< The spec as text, to notice changes.
    TimePoint observed_at_{};
    Duration observed_duration_{0};
};

/// Host name and eight random hex digits.
std::string make_identity(async::Loop& loop, std::string_view host_name);

}  // namespace basalt::controller
