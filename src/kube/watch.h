// One watch request: the stream of events of an API resource.
//
// next() yields events in the server's order. The stream ends when the server closes it (a watch
// has a time limit), which is no failure: go on from the last resource version. An ERROR event of
// the server becomes an Error; is_expired() tells "410 Gone", after which only a new list helps.
// Dropping a Watch closes its stream. One loop.
#pragma once

#include <memory>
#include <optional>

#include "data/json.h"
#include "kube/client.h"

namespace basalt::kube {

enum class EventType { kAdded, kModified, kDeleted, kBookmark };

struct WatchEvent {
    EventType type = EventType::kAdded;
    Value object;
};

/// Decodes the bytes of a watch; no I/O (watch_fuzz.cc).
class WatchDecoder {
 public:
    /// An event above `event_size_max` bytes is an error.
    explicit WatchDecoder(size_t event_size_max = ClientOptions().watch_event_size_max)
        : splitter_(event_size_max) {}
    void feed(std::string_view chunk) { splitter_.feed(chunk); }
    /// The next event, or nothing when more bytes are needed. Unknown event types are skipped.
    /// Errors: what an ERROR event says; InvalidArgument for what is no event.
    Result<std::optional<WatchEvent>> next();
    /// False: the stream broke off inside an event.
    bool idle() const { return splitter_.idle(); }

 private:
    data::JsonLineSplitter splitter_;
};

class Watch {
 public:
    Watch(std::unique_ptr<net::BodyReader> body, size_t event_size_max)
        : body_(std::move(body)), decoder_(event_size_max) {}

    /// The next event; nullopt at the end. Unavailable when the connection broke.
    async::Task<Result<std::optional<WatchEvent>>> next();

 private:
    std::unique_ptr<net::BodyReader> body_;
    WatchDecoder decoder_;
};

/// True for the bookmark that ends the initial events of a WatchList.
bool is_initial_events_end(const WatchEvent& event);

}  // namespace basalt::kube
