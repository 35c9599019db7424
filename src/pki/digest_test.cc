#include "pki/digest.h"

#include <gtest/gtest.h>

namespace basalt::pki {
namespace {

// Vectors: RFC 1321 appendix A.5, FIPS 180-2 appendix B, RFC 4231 section 4.
TEST(DigestTest, KnownVectors) {
    EXPECT_EQ(md5_hex(""), "d41d8cd98f00b204e9800998ecf8427e");
    EXPECT_EQ(md5_hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    EXPECT_EQ(sha256_hex("abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(to_hex(hmac_sha256(Secret(std::string_view("Jefe")), "what do ya want for nothing?")),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_EQ(to_hex(hmac_sha256(Secret(), "")),
              "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    EXPECT_EQ(to_hex(std::string_view("\x00\xff\x10", 3)), "00ff10");
}

}  // namespace
}  // namespace basalt::pki
