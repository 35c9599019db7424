#include "net/deflate.h"

#include <boost/beast/zlib/deflate_stream.hpp>
#include <boost/beast/zlib/inflate_stream.hpp>

#include "base/assert.h"

namespace basalt::net {
namespace zlib = boost::beast::zlib;
namespace {

constexpr int kFastest = 1;
constexpr int kWindowBits = 15;
constexpr int kMemoryLevel = 8;

zlib::z_params params_of(std::string_view from, std::string& to) {
    zlib::z_params params;
    params.next_in = from.data();
    params.avail_in = from.size();
    params.next_out = to.data();
    params.avail_out = to.size();
    return params;
}

}  // namespace

std::string deflate(std::string_view text) {
    zlib::deflate_stream stream;
    stream.reset(kFastest, kWindowBits, kMemoryLevel, zlib::Strategy::normal);
    std::string packed(stream.upper_bound(text.size()), '\0');
    zlib::z_params params = params_of(text, packed);
    boost::beast::error_code error;
    stream.write(params, zlib::Flush::finish, error);
    BASALT_ASSERT(error == zlib::error::end_of_stream && params.avail_in == 0);
    packed.resize(packed.size() - params.avail_out);
    return packed;
}

std::string inflate(std::string_view packed, size_t size) {
    zlib::inflate_stream stream;
    stream.reset(kWindowBits);
    std::string text(size, '\0');
    zlib::z_params params = params_of(packed, text);
    boost::beast::error_code error;
    stream.write(params, zlib::Flush::finish, error);
    // Now and then it would look at one more byte before it sees the end; the text is whole then.
    BASALT_ASSERT(!error.failed() || error == zlib::error::end_of_stream ||
                  error == zlib::error::need_buffers);
    BASALT_ASSERT(params.avail_out == 0 && params.avail_in == 0);
    return text;
}

}  // namespace basalt::net
