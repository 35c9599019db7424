// Time, as the whole product spells it.
//
// Two clocks, never mixed: TimePoint (monotonic) for timeouts and intervals, WallTime (UTC,
// milliseconds) for what is written into objects and certificates. Neither is read here: Loop
// (async/loop.h) gives both, so that tests and the simulator rule over them.
//
// Formats: RFC 3339 as the Kubernetes API writes metav1.Time (seconds, "Z") and metav1.MicroTime
// (six digits of fraction), and the durations of Go's time.ParseDuration ("1h30m", "250ms"), which
// Kubernetes uses for metav1.Duration. Pure functions, any thread.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/result.h"

namespace basalt {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = std::chrono::nanoseconds;
using WallTime = std::chrono::sys_time<std::chrono::milliseconds>;

static_assert(std::is_same_v<Clock::duration, Duration>, "TimePoint + Duration must need no cast");

/// For sums, differences and comparisons with a WallTime: with a Duration itself they would count
/// in nanoseconds, which overflow in 2262, and certificates may end in 9999 (RFC 5280 section
/// 4.1.2.5). Fractions of a millisecond are dropped.
constexpr WallTime::duration wall_duration(Duration duration) {
    return std::chrono::duration_cast<WallTime::duration>(duration);
}

/// "2024-02-29T12:00:00Z"; the fraction is dropped. Years 0 to 9999; others are clamped to that
/// range.
std::string format_rfc3339(WallTime time);
/// "2024-02-29T12:00:00.123000Z", as in Lease.spec.renewTime.
std::string format_rfc3339_micro(WallTime time);
/// Any RFC 3339 time: offsets are converted to UTC, digits after the millisecond are dropped, a
/// leap second
/// (":60") reads as the second after it.
Result<WallTime> parse_rfc3339(std::string_view text);

/// Go's Duration.String(): "1h30m0s", "250ms", "0s".
std::string format_duration(Duration duration);
/// Go's time.ParseDuration: "300ms", "-1.5h", "2h45m"; units ns, us, µs, ms, s, m, h.
Result<Duration> parse_duration(std::string_view text);

}  // namespace basalt
