// Requests to a Router without a connection, in virtual time.
#pragma once

#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/task_group.h"
#include "controller/http_endpoint.h"
#include "kube/test_server.h"

namespace basalt::controller {

class RouterFixture : public ::testing::Test {
 protected:
    template <class T>
    T run(async::Task<T> task) {
        std::optional<T> slot;
        async::TaskGroup own(loop);
        own.spawn(kube::testing::capture(std::move(task), &slot));
        loop.run_until([&] { return own.size() == 0; }, std::chrono::hours(1));
        return std::move(*slot);
    }
    Result<net::HttpServerResponse> send(const std::string& path, const std::string& body,
                                         const std::string& token = {}) {
        net::ServerRequest request;
        request.method = body.empty() ? "GET" : "POST";
        request.target = path;
        request.body = body;
        if (!token.empty()) request.headers.set("authorization", "Bearer " + token);
        return run(router.handle(std::move(request)));
    }

    async::SimLoop loop{9};
    Router router;
};

}  // namespace basalt::controller
