#include "kube/watch.h"

namespace basalt::kube {

Result<std::optional<WatchEvent>> WatchDecoder::next() {
    for (;;) {
        BASALT_ASSIGN(std::optional<Value> event, splitter_.next_value());
        if (!event) return std::optional<WatchEvent>();
        const std::string_view type = (*event)["type"].as_string();
        Value* object = event->find("object");
        if (type.empty() || object == nullptr || !object->is_object()) {
            return invalid_argument("watch: a document that is no event");
        }
        if (type == "ERROR") return error_from_status(*object);
        WatchEvent decoded;
        if (type == "ADDED") {
            decoded.type = EventType::kAdded;
        } else if (type == "MODIFIED") {
            decoded.type = EventType::kModified;
        } else if (type == "DELETED") {
            decoded.type = EventType::kDeleted;
        } else if (type == "BOOKMARK") {
            decoded.type = EventType::kBookmark;
        } else {
            continue;
        }
        decoded.object = std::move(*object);
        return std::optional<WatchEvent>(std::move(decoded));
    }
}

async::Task<Result<std::optional<WatchEvent>>> Watch::next() {
    for (;;) {
        Result<std::optional<WatchEvent>> event = decoder_.next();
        if (!event.ok() || event->has_value()) co_return std::move(event);
        Result<std::optional<std::string>> chunk = co_await body_->read();
        if (!chunk.ok()) co_return std::move(chunk).error();
        if (!chunk->has_value()) {
            if (!decoder_.idle()) co_return unavailable("the watch broke off inside an event");
            co_return std::optional<WatchEvent>();
        }
        decoder_.feed(**chunk);
    }
}

bool is_initial_events_end(const WatchEvent& event) {
    return event.type == EventType::kBookmark &&
           annotation_of(event.object, "k8s.io/initial-events-end") == "true";
}

}  // namespace basalt::kube
