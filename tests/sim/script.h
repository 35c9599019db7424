// What users, tenants and misfortune do to a world, drawn from its Chaos.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace basalt::sim {

class Script {
 public:
    /// Without `misfortune` only users act: nothing breaks and nobody meddles.
    Script(World& world, bool misfortune);

    /// One thing happens.
    void act();
    /// Everything that was broken by act() is mended, and nobody is paused; wishes stay, sleep
    /// included.
    void mend();
    /// Nobody sleeps any more.
    void wake_all();
    /// Those that are wished to.
    std::vector<SharedValue> sleeping() const;
    /// The names of what happened, with the time.
    const std::vector<std::string>& log() const { return log_; }
    size_t control_planes_count() const;
    /// One that nobody deletes.
    bool has_lasting_control_plane() const;
    /// Deletes all control planes.
    void delete_all();

 private:
    struct Action {
        int weight;
        const char* name;
        /// Says what was done; "" when there was nothing to do it to.
        std::function<std::string()> run;
    };
    std::vector<SharedValue> control_planes() const;
    SharedValue some_control_plane();
    SharedValue some_owned(const SharedValue& control_plane);
    std::string change(const SharedValue& control_plane, const Value& patch,
                       const std::string& what);
    std::string create();
    std::string change_spec();
    std::string move_events();
    std::string upgrade();
    std::string sleep_or_wake();
    std::string pause_or_resume();
    std::string remove_control_plane();
    std::string make_generator();
    std::string delete_owned();
    std::vector<Value> edits_of(const Value& object);
    std::string edit_owned();
    const Kind& kind_of(const Value& object);
    std::string break_secret();
    std::string rotate();
    std::string edit_tenant();
    std::string break_datastore();
    std::string fill_datastore();
    std::string break_datastore_secret();
    std::string disturb_watches();
    std::string crash();
    std::string end_one();
    std::string cut_off();
    std::string freeze();
    std::string stop_busy_leader();
    std::string slow_datastore();
    std::string start_second();
    std::string kill_pod();
    std::string jump_clock();
    std::string put_clock_back();
    std::string stop_controller_manager();
    Value new_spec();
    void say(const std::string& what);

    World& world_;
    std::vector<Action> actions_;
    std::vector<std::string> log_;
    std::map<std::string, Value> broken_secrets_;  ///< Key -> the good data.
    std::vector<std::string> down_, full_;
    Duration clock_offset_{0}, clock_furthest_{0};  ///< Of the world's clock: now, at most so far.
    int names_ = 0;
};

}  // namespace basalt::sim
