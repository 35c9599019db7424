// Reflector: keeps a sink equal to a collection of the API server, for as long as it runs.
//
// Order of attempts: WatchList (the state as a stream, then changes on the same stream), and when
// the server refuses it, a chunked LIST and a WATCH from its version. The initial state is buffered
// and handed over as one replace(), so that the sink never shows half a list. Failures back off
// (0.8 s doubling to 30 s, up to half more at random, reset after 2 min without one); "410 Gone"
// lists again; a watch ends by itself after 5 to 10 min (random, so that the watches of a process
// do not renew at once) and goes on from the last version; bookmarks move that version without
// objects.
//
// One loop. The client and the sink must outlive run().
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "kube/client.h"
#include "kube/watch.h"

namespace basalt::kube {

/// What a reflector writes to. Calls come from run(), in the server's order.
class Sink {
 public:
    virtual ~Sink() = default;
    /// The whole state: what is not in `objects` is gone.
    virtual void replace(std::vector<SharedValue> objects, const std::string& resource_version) = 0;
    virtual void upsert(SharedValue object) = 0;
    /// Objects that it holds.
    virtual size_t size() const = 0;
    virtual bool has(const ObjectKey& key) const = 0;
    /// `object` is the last state.
    virtual void remove(SharedValue object) = 0;
};

/// Changes a freshly decoded object before it is shared: dropping what nobody reads saves memory.
using Transform = std::function<void(Value& object)>;

class Reflector {
 public:
    struct Options {
        Options() = default;
        Resource resource;
        std::string ns;
        std::string label_selector;
        std::string field_selector;
        bool metadata_only = false;
        /// Try WatchList first.
        bool watch_list = true;
        int64_t page_size = 500;
        Transform transform;
        /// For servers that are not trusted: more objects, or a larger one after the transform, end
        /// the list or watch, and the sink keeps what it has until a later list is within them.
        size_t objects_count_max = std::numeric_limits<size_t>::max();
        size_t object_size_max = std::numeric_limits<size_t>::max();
        Duration backoff_min = std::chrono::milliseconds(800);
        Duration backoff_max = std::chrono::seconds(30);
        Duration backoff_reset = std::chrono::minutes(2);
        Duration watch_timeout_min = std::chrono::minutes(5);  ///< The maximum is twice this.
        /// A stream that shows no sign of life for this long after its server-side end is given up.
        Duration watch_grace = std::chrono::seconds(30);
        /// A server may take long to list a large collection.
        Duration list_timeout = std::chrono::minutes(5);
    };

    struct Stats {
        uint64_t lists_count = 0;
        uint64_t watch_lists_count = 0;
        uint64_t watches_count = 0;
        uint64_t events_count = 0;
        /// Why watches ended: "timeout", "expired", "closed", "error", "very_short".
        std::map<std::string, uint64_t> close_reasons;
        std::string last_error;   ///< "" once a watch or list has worked again.
        bool over_limit = false;  ///< The latest list or watch ended by one of the limits above.
    };

    Reflector(Client& client, Sink& sink, Options options);

    /// Until the scope is cancelled.
    async::Task<void> run();
    /// The last version seen, from objects and bookmarks.
    const std::string& resource_version() const { return resource_version_; }
    const Stats& stats() const { return stats_; }
    const Options& options() const { return options_; }

 private:
    async::Task<Result<void>> sync();
    async::Task<Result<void>> sync_by_list();
    async::Task<Result<std::unique_ptr<Watch>>> sync_by_watch();
    async::Task<Result<void>> receive_initial(Watch* stream, std::vector<SharedValue>* objects);
    async::Task<Result<void>> watch_once();
    async::Task<Result<void>> consume(std::unique_ptr<Watch> stream);
    async::Task<Result<void>> consume_events(Watch* stream);
    async::Task<Result<void>> backoff();
    WatchOptions watch_options(int64_t timeout_seconds) const;
    int64_t random_timeout_seconds();
    Result<SharedValue> share(Value object) const;
    Result<void> check_count(size_t count) const;
    Result<void> deliver(WatchEvent event);
    void note_end(const Result<void>& ended, TimePoint since, uint64_t events_before);

    Client& client_;
    Sink& sink_;
    Options options_;
    Stats stats_;
    std::string resource_version_;
    bool use_watch_list_;
    /// The stream that sync_by_watch() left open; consume() goes on with it.
    std::unique_ptr<Watch> open_stream_;
    int64_t open_timeout_seconds_ = 0;
    Duration backoff_next_;
    TimePoint last_failure_{};
};

}  // namespace basalt::kube
