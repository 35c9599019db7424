#include "net/stream.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <thread>

#include "async/sim_loop.h"
#include "net/net_test_util.h"

namespace basalt::net {
namespace {

using test::run;
using test::Task;

Task<Result<std::string>> read_to_end(Stream& stream) {
    std::string text;
    for (;;) {
        Result<std::string> piece = co_await stream.read(64 * 1024);
        if (!piece.ok()) co_return std::move(piece);
        if (piece->empty()) co_return std::move(text);
        text += *piece;
    }
}

Task<Result<void>> write_and_end(Stream& stream, std::string data) {
    Result<void> written = co_await stream.write(std::move(data));
    if (!written.ok()) co_return std::move(written);
    Result<void> ended = co_await stream.close_write();
    co_return std::move(ended);
}

Task<Result<void>> expect_text(Stream& stream, std::string expected) {
    Result<std::string> text = co_await read_to_end(stream);
    if (!text.ok()) co_return std::move(text).error();
    if (*text != expected)
        co_return internal_error("other text of " + std::to_string(text->size()) + " bytes");
    co_return Result<void>();
}

std::string pattern(size_t size) {
    std::string text(size, '\0');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 977);
    return text;
}

Task<void> exchange_both_ways(async::Loop& loop, Stream& a, Stream& b, size_t size) {
    std::string data = pattern(size);
    std::vector<Task<Result<void>>> tasks;
    tasks.push_back(write_and_end(a, data));
    tasks.push_back(write_and_end(b, data));
    tasks.push_back(expect_text(a, data));
    tasks.push_back(expect_text(b, data));
    Result<void> all = co_await async::join_all(loop, std::move(tasks));
    CO_REQUIRE_OK(all);
}

Task<void> over_sockets(async::RealLoop& loop, Endpoint endpoint) {
    Result<std::unique_ptr<Listener>> listener = listen(loop, endpoint);
    CO_REQUIRE_OK(listener);
    Result<std::unique_ptr<Stream>> client = co_await connect(loop, (*listener)->endpoint());
    CO_REQUIRE_OK(client);
    Result<std::unique_ptr<Stream>> server = co_await (*listener)->accept();
    CO_REQUIRE_OK(server);
    EXPECT_EQ((*client)->info().peer, (*listener)->endpoint().to_string());
    EXPECT_EQ((*client)->info().local, (*server)->info().peer);
    co_await exchange_both_ways(loop, **client, **server, 3'000'000);
}

TEST(Sockets, CarryMegabytesBothWays) {
    async::RealLoop loop;
    run(loop, over_sockets(loop, Endpoint::tcp("127.0.0.1", 0)));
    async::RealLoop second;
    std::string path = testing::TempDir() + "stream_test.sock";
    run(second, over_sockets(second, Endpoint::local_socket(path)));
    EXPECT_NE(access(path.c_str(), F_OK), 0) << "the listener removes its file";
}

Task<void> resolve_name(async::RealLoop& loop) {
    Result<std::unique_ptr<Listener>> listener = listen(loop, Endpoint::tcp("", 0));
    CO_REQUIRE_OK(listener);
    Result<std::unique_ptr<Stream>> client =
        co_await connect(loop, Endpoint::tcp("localhost", (*listener)->endpoint().port));
    CO_REQUIRE_OK(client);
    Result<std::unique_ptr<Stream>> unknown =
        co_await connect(loop, Endpoint::tcp("no-such-host.invalid", 1));
    CO_REQUIRE(!unknown.ok());
    EXPECT_EQ(unknown.error().code(), Code::kUnavailable);
    uint16_t port = (*listener)->endpoint().port;
    (*listener)->close();
    Result<std::unique_ptr<Stream>> refused =
        co_await connect(loop, Endpoint::tcp("127.0.0.1", port));
    CO_REQUIRE(!refused.ok());
    EXPECT_EQ(refused.error().code(), Code::kUnavailable);
    EXPECT_EQ(refused.error().cause_code(), ECONNREFUSED);
}

TEST(Sockets, ConnectByNameAndReportFailure) {
    async::RealLoop loop;
    run(loop, resolve_name(loop));
}

Task<void> cancel_and_close(async::RealLoop& loop) {
    Result<std::unique_ptr<Listener>> listener = listen(loop, Endpoint::tcp("127.0.0.1", 0));
    CO_REQUIRE_OK(listener);
    Result<std::unique_ptr<Stream>> client = co_await connect(loop, (*listener)->endpoint());
    CO_REQUIRE_OK(client);
    Result<std::unique_ptr<Stream>> server = co_await (*listener)->accept();
    CO_REQUIRE_OK(server);
    Result<std::string> late =
        co_await async::with_timeout(loop, std::chrono::milliseconds(20), (*client)->read(10));
    CO_REQUIRE(!late.ok());
    EXPECT_EQ(late.error().code(), Code::kDeadlineExceeded);
    Result<void> written = co_await (*server)->write("still here");
    CO_REQUIRE_OK(written);
    Result<std::string> text = co_await (*client)->read(100);
    CO_REQUIRE_OK(text);
    EXPECT_EQ(*text, "still here");
    loop.call_at(loop.now() + std::chrono::milliseconds(10),
                 [stream = client->get()] { stream->close(); });
    Result<std::string> closed = co_await (*client)->read(10);
    CO_REQUIRE(!closed.ok());
    EXPECT_EQ(closed.error().code(), Code::kUnavailable);
    Result<std::unique_ptr<Stream>> none =
        co_await async::with_timeout(loop, std::chrono::milliseconds(20), (*listener)->accept());
    CO_REQUIRE(!none.ok());
    EXPECT_EQ(none.error().code(), Code::kDeadlineExceeded);
}

TEST(Sockets, CancelAndCloseEndOperations) {
    async::RealLoop loop;
    run(loop, cancel_and_close(loop));
}

TEST(Listener, ReplacesStaleSocketFilesOnly) {
    async::RealLoop loop;
    std::string path = testing::TempDir() + "stale_test.sock";
    unlink(path.c_str());
    {
        auto first = listen(loop, Endpoint::local_socket(path), {.unix_mode = 0660}).value();
        struct stat status{};
        ASSERT_EQ(stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0660U);
        EXPECT_EQ(listen(loop, Endpoint::local_socket(path)).error().code(), Code::kAlreadyExists);
        std::string kept = path + ".kept";
        ASSERT_EQ(rename(path.c_str(), kept.c_str()), 0);
        ASSERT_EQ(link(kept.c_str(), path.c_str()), 0);
        rename(kept.c_str(), kept.c_str());
        first->close();
        ASSERT_EQ(rename(kept.c_str(), path.c_str()), 0);
    }
    ASSERT_EQ(access(path.c_str(), F_OK), 0);
    EXPECT_TRUE(listen(loop, Endpoint::local_socket(path)).ok());
    FILE* file = fopen(path.c_str(), "w");
    fclose(file);
    EXPECT_EQ(listen(loop, Endpoint::local_socket(path)).error().code(), Code::kAlreadyExists);
    unlink(path.c_str());
    run(loop, []() -> Task<void> { co_return; }());
}

TEST(StreamPair, WorksOnTheSimulatorsLoop) {
    async::SimLoop loop(7);
    auto pair = make_stream_pair(loop, 1000);
    async::TaskGroup group(loop);
    group.spawn(exchange_both_ways(loop, *pair.first, *pair.second, 100'000));
    EXPECT_TRUE(loop.run_until([&group] { return group.size() == 0; }, std::chrono::seconds(1)));
}

TEST(Endpoint, ParsesAndPrints) {
    EXPECT_EQ(parse_endpoint("a.b:80").value().to_string(), "a.b:80");
    EXPECT_EQ(parse_endpoint("[::1]:80").value().host, "::1");
    EXPECT_EQ(parse_endpoint("[::1]:80").value().to_string(), "[::1]:80");
    EXPECT_EQ(parse_endpoint("unix:///run/x").value().unix_path, "/run/x");
    EXPECT_EQ(parse_endpoint("unix:/run/x").value().unix_path, "/run/x");
    for (const char* text : {"", "host", "::1:80", "h:x", "h:70000", "unix:rel"})
        EXPECT_FALSE(parse_endpoint(text).ok());
}

/// From now on this thread gets no sockets of IPv6, as on a kernel that was started with
/// ipv6.disable=1.
bool forbid_ipv6() {
    std::array<sock_filter, 6> code{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    }};
    const sock_fprog program{code.size(), code.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

Task<void> without_ipv6(async::RealLoop& loop) {
    for (const char* host : {"", "::"}) {
        Result<std::unique_ptr<Listener>> listener = listen(loop, Endpoint::tcp(host, 0));
        CO_REQUIRE_OK(listener);
        const Endpoint local = Endpoint::tcp("127.0.0.1", (*listener)->endpoint().port);
        Result<std::unique_ptr<Stream>> client = co_await connect(loop, local);
        CO_REQUIRE_OK(client);
        Result<std::unique_ptr<Stream>> server = co_await (*listener)->accept();
        CO_REQUIRE_OK(server);
    }
    EXPECT_FALSE(listen(loop, Endpoint::tcp("::1", 0)).ok()) << "an address is meant as it is";
}

TEST(Listener, AllAddressesWithoutIpv6) {
    std::thread thread([] {
        ASSERT_TRUE(forbid_ipv6());
        async::RealLoop loop;
        run(loop, without_ipv6(loop));
    });
    thread.join();
}

}  // namespace
}  // namespace basalt::net
