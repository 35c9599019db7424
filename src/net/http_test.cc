#include "net/http.h"

#include <gtest/gtest.h>

#include "net/http1_codec.h"
#include "net/http_text.h"

namespace basalt::net {
namespace {

using internal::Http1Parser;

TEST(Headers, KeepOrderAndIgnoreCase) {
    Headers headers{{"a", "1"}, {"b", "2"}, {"a", "3"}};
    EXPECT_EQ(headers.get("A"), "1");
    EXPECT_TRUE(headers.contains("B"));
    headers.set("A", "4");
    ASSERT_EQ(headers.fields().size(), 2U);
    EXPECT_EQ(headers.get("a"), "4");
    EXPECT_EQ(headers.get("none"), "");
}

TEST(PercentCoding, RoundTripsAndRefusesMalformed) {
    std::string all;
    for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
    EXPECT_EQ(percent_decode(percent_encode(all), false).value(), all);
    EXPECT_EQ(percent_encode("a b/c~"), "a%20b%2Fc~");
    EXPECT_EQ(percent_decode("a+b%2b", true).value(), "a b+");
    EXPECT_EQ(percent_decode("%41", false).value(), "A");
    for (const char* text : {"%", "%4", "%zz", "a%"})
        EXPECT_FALSE(percent_decode(text, false).ok()) << text;
}

TEST(HttpText, RefusesInjection) {
    HttpRequest request;
    request.headers.add("x", "a\r\nevil: 1");
    EXPECT_FALSE(internal::check_request(request).ok());
    request.headers = Headers();
    request.target = "/a b";
    EXPECT_FALSE(internal::check_request(request).ok());
    request.target = "/a";
    request.method = "GET /";
    EXPECT_FALSE(internal::check_request(request).ok());
}

TEST(Http1Parser, TakesRequestsByteByByte) {
    std::string text =
        "POST /x?y=1 HTTP/1.1\r\nHost: h\r\nX-Thing: a\r\nContent-Length: 5\r\n\r\nhelloGET ";
    Http1Parser parser(Http1Parser::Kind::kRequest, {1024, 1024});
    for (size_t i = 0; i < text.size(); ++i) {
        ASSERT_TRUE(parser.feed(text.substr(i, 1)).ok()) << i;
    }
    ASSERT_TRUE(parser.done());
    EXPECT_EQ(parser.method(), "POST");
    EXPECT_EQ(parser.target(), "/x?y=1");
    EXPECT_EQ(parser.headers().get("x-thing"), "a");
    EXPECT_EQ(parser.headers().fields()[1].first, "x-thing");
    EXPECT_EQ(parser.take_body(), "hello");
    EXPECT_EQ(parser.take_rest(), "GET ");
    EXPECT_TRUE(parser.keep_alive());
}

TEST(Http1Parser, ReadsChunkedAndUnboundedBodies) {
    Http1Parser chunked(Http1Parser::Kind::kResponse, {1024, 0});
    ASSERT_TRUE(
        chunked.feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").ok());
    EXPECT_TRUE(chunked.has_header());
    EXPECT_EQ(chunked.take_body(), "abc");
    EXPECT_FALSE(chunked.done());
    ASSERT_TRUE(chunked.feed("2\r\nde\r\n0\r\n\r\n").ok());
    EXPECT_EQ(chunked.take_body(), "de");
    EXPECT_TRUE(chunked.done());

    Http1Parser unbounded(Http1Parser::Kind::kResponse, {1024, 0});
    ASSERT_TRUE(unbounded.feed("HTTP/1.1 200 OK\r\n\r\nall of").ok());
    EXPECT_FALSE(unbounded.done());
    EXPECT_TRUE(unbounded.feed_end().ok());
    EXPECT_TRUE(unbounded.done());
    EXPECT_FALSE(unbounded.keep_alive());
}

TEST(Http1Parser, NamesTheLimitThatWasHit) {
    Http1Parser header(Http1Parser::Kind::kRequest, {128, 16});
    Result<void> fed = header.feed("GET / HTTP/1.1\r\nX: " + std::string(1000, 'a'));
    ASSERT_FALSE(fed.ok());
    EXPECT_EQ(fed.error().cause_code(), 431);
    Http1Parser body(Http1Parser::Kind::kRequest, {128, 16});
    fed = body.feed("POST / HTTP/1.1\r\nContent-Length: 17\r\n\r\n");
    ASSERT_FALSE(fed.ok());
    EXPECT_EQ(fed.error().cause_code(), 413);
    // A promise of terabytes reserves nothing.
    Http1Parser promise(Http1Parser::Kind::kResponse, {1024, 0});
    EXPECT_TRUE(promise.feed("HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000\r\n\r\nx").ok());
    EXPECT_FALSE(promise.feed_end().ok());
    Http1Parser garbage(Http1Parser::Kind::kRequest, {1024, 16});
    EXPECT_EQ(garbage.feed("\x16\x03\x01 not http\r\n\r\n").error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace basalt::net
