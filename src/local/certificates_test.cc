#include "local/certificates.h"

#include <sys/stat.h>

#include <gtest/gtest.h>

#include "linux/file.h"
#include "linux/linux_test_support.h"

namespace basalt::local {
namespace {

class LocalCertificates : public testing::Test {
 protected:
    LocalCertificates() {
        spec.common_name = "etcd";
        spec.server = spec.client = true;
        spec.dns_names = {"localhost", "*.etcd.example"};
        spec.ip_addresses = {"127.0.0.1"};
        spec.lifetime = pki::kCaLifetime;
    }
    pki::CertificateAuthority authority() {
        return ensure_authority(directory, "test", keys, now).value();
    }
    void ensure() {
        ASSERT_TRUE(ensure_certificate(directory, "server", spec, authority(), keys, now).ok());
    }
    std::string text(const std::string& file) const {
        return linux::read_file(directory + "/" + file).value();
    }
    std::string everything() const {
        return text("ca.crt") + text("ca.key") + text("server.crt") + text("server.key");
    }
    pki::Certificate server() const { return pki::Certificate::parse(text("server.crt")).value(); }

    linux::TemporaryDirectory temporary;
    std::string directory = temporary.path() + "/pki";
    pki::SimKeySource keys{1};
    pki::CertificateSpec spec;
    WallTime now{std::chrono::seconds(1'767'225'600)};
};

TEST_F(LocalCertificates, AreMadeOnce) {
    ensure();
    const std::string before = everything();
    now += std::chrono::hours(24 * 365 * 5);
    ensure();
    EXPECT_EQ(everything(), before);
    EXPECT_TRUE(pki::verify(server(), {}, {authority().certificate()}, now).ok());
    for (const char* key : {"/ca.key", "/server.key"}) {
        struct stat status{};
        ASSERT_EQ(::stat((directory + key).c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777U, 0600U) << key;
    }
}

TEST_F(LocalCertificates, FollowWhatIsAskedFor) {
    ensure();
    const std::string ca = text("ca.crt");
    spec.dns_names.emplace_back("etcd-2");
    ensure();
    EXPECT_TRUE(server().is_valid_for("etcd-2"));
    EXPECT_TRUE(server().is_valid_for("one.etcd.example"));
    EXPECT_EQ(text("ca.crt"), ca);
}

// All parts of a local cluster have this machine's clock.
TEST_F(LocalCertificates, AreMadeAnewWhenTheyAreNotValidYet) {
    authority();
    now += std::chrono::hours(24);
    ensure();
    now -= std::chrono::hours(12);
    ensure();
    EXPECT_TRUE(server().is_valid_at(now));
}

// As a kill between two files leaves it.
TEST_F(LocalCertificates, AreCompleted) {
    ensure();
    const std::string of_another(keys.new_key().to_pem().reveal());
    ASSERT_TRUE(linux::write_file(directory + "/server.key", of_another).ok());
    ensure();
    EXPECT_TRUE(pki::parse_key_pair(text("server.crt"), Secret(text("server.key"))).ok());
    ASSERT_EQ(::unlink((directory + "/ca.crt").c_str()), 0);
    ensure();
    EXPECT_TRUE(server().is_signed_by(authority().certificate())) << "a new authority, its leaves";
}

TEST_F(LocalCertificates, AnAuthorityIsNeverReplaced) {
    ensure();
    const std::string of_another(keys.new_key().to_pem().reveal());
    ASSERT_TRUE(linux::write_file(directory + "/ca.key", of_another).ok());
    auto refused = ensure_authority(directory, "test", keys, now);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), Code::kFailedPrecondition);
    EXPECT_NE(refused.error().message().find("/pki/ca.crt"), std::string::npos);
    EXPECT_EQ(refused.error().message().find("PRIVATE"), std::string::npos);
}

}  // namespace
}  // namespace basalt::local
