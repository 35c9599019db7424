// Requests to a Router without a connection, in virtual time.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "controller/http_endpoint.h"
#include "controller/server_fixture_test.h"

namespace basalt::controller {

class RouterFixture : public ServerFixture {
 protected:
    Result<net::HttpServerResponse> send(const std::string& path, const std::string& body,
                                         const std::string& token = {}) {
        net::ServerRequest request;
        request.method = body.empty() ? "GET" : "POST";
        request.target = path;
        request.body = body;
        if (!token.empty()) request.headers.set("authorization", "Bearer " + token);
        return run(router.handle(std::move(request)));
    }

    Router router;
};

}  // namespace basalt::controller
