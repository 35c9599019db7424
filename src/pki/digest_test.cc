#include "pki/digest.h"

#include <gtest/gtest.h>

namespace basalt::pki {
namespace {

// Vectors: RFC 1321 appendix A.5, FIPS 180-2 appendix B.
TEST(DigestTest, KnownVectors) {
    EXPECT_EQ(md5_hex(""), "d41d8cd98f00b204e9800998ecf8427e");
    EXPECT_EQ(md5_hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    EXPECT_EQ(sha256_hex("abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(to_hex(std::string_view("\x00\xff\x10", 3)), "00ff10");
}

}  // namespace
}  // namespace basalt::pki
