#include "pki/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pki/openssl_cli.h"

namespace basalt::pki {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

WallTime add(WallTime time, Duration by) {
    return time + std::chrono::duration_cast<WallTime::duration>(by);
}

class CertificateTest : public OpensslCli {
 protected:
    CertificateSpec server_spec() const {
        CertificateSpec spec;
        spec.common_name = "kube-apiserver";
        spec.dns_names = {"kubernetes", "kubernetes.default.svc", "*.example.com", "localhost",
                          "kubernetes"};
        spec.ip_addresses = {"10.96.0.1", "127.0.0.1", "fd00::1", "FD00:0::1"};
        spec.server = true;
        return spec;
    }
    KeyPair issue(const CertificateSpec& spec) {
        Result<KeyPair> pair = ca_.issue(spec, keys_, now_);
        EXPECT_TRUE(pair.ok()) << pair.error().to_string();
        return std::move(*pair);
    }
    std::string issue_error(const CertificateSpec& spec) {
        Result<KeyPair> pair = ca_.issue(spec, keys_, now_);
        if (pair.ok()) return "no error";
        EXPECT_EQ(pair.error().code(), Code::kInvalidArgument);
        return pair.error().message();
    }

    // A time of its own: nothing may look at the system's clock. Milliseconds must be cut, not
    // rounded up.
    const WallTime now_{seconds(1'900'000'000) + std::chrono::milliseconds(999)};
    SimKeySource keys_{11};
    CertificateAuthority ca_ = CertificateAuthority::create(keys_, "kubernetes", now_);
};

TEST_F(CertificateTest, SeveralAuthoritiesVouchForOneKey) {
    CertificateAuthority other = CertificateAuthority::create(keys_, "other", now_, hours(1000));
    const PrivateKey between = keys_.new_key();
    CertificateSpec spec;
    spec.common_name = "both";
    spec.client = true;
    std::vector<Certificate> intermediates;
    for (const CertificateAuthority* root : {&ca_, &other}) {
        Result<Certificate> made = root->issue_authority(between, spec, keys_, now_);
        ASSERT_TRUE(made.ok()) << made.error().to_string();
        EXPECT_TRUE(made->is_ca());
        EXPECT_TRUE(made->is_signed_by(root->certificate()));
        EXPECT_LE(made->not_after(), root->certificate().not_after());
        intermediates.push_back(*made);
    }
    Result<CertificateAuthority> issuer =
        CertificateAuthority::parse(intermediates[0].to_pem(), between.to_pem());
    ASSERT_TRUE(issuer.ok()) << issuer.error().to_string();
    spec.common_name = "user";
    const KeyPair leaf = issuer->issue(spec, keys_, now_).value();
    // (OpenSSL, unlike Go, does not try the second intermediate of one name: it sees one at a
    // time.)
    const CertificateAuthority* roots[] = {&ca_, &other};
    for (size_t i = 0; i < 2; ++i) {
        const Certificate& root = roots[i]->certificate();
        const Certificate& stranger = roots[1 - i]->certificate();
        const std::vector<Certificate> own = {intermediates[i]};
        EXPECT_TRUE(verify(leaf.certificate, own, {root}, now_, Purpose::kClient).ok());
        EXPECT_FALSE(verify(leaf.certificate, own, {stranger}, now_, Purpose::kClient).ok());
        EXPECT_FALSE(verify(leaf.certificate, {}, {root}, now_, Purpose::kClient).ok());
    }
    // It is the last authority of the chain.
    const PrivateKey deeper = keys_.new_key();
    const Certificate below = issuer->issue_authority(deeper, spec, keys_, now_).value();
    CertificateAuthority too_deep =
        CertificateAuthority::parse(below.to_pem(), deeper.to_pem()).value();
    const KeyPair far = too_deep.issue(spec, keys_, now_).value();
    EXPECT_FALSE(verify(far.certificate, {below, intermediates[0]}, {ca_.certificate()}, now_,
                        Purpose::kClient)
                     .ok());
}

TEST_F(CertificateTest, AuthorityIsWhatKubeadmMakes) {
    const Certificate& certificate = ca_.certificate();
    EXPECT_TRUE(certificate.is_ca());
    EXPECT_EQ(certificate.common_name(), "kubernetes");
    EXPECT_EQ(certificate.issuer_common_name(), "kubernetes");
    EXPECT_THAT(certificate.dns_names(), ElementsAre("kubernetes"));
    EXPECT_TRUE(certificate.is_signed_by(certificate));
    EXPECT_EQ(certificate.not_before(), WallTime(seconds(1'900'000'000)) - minutes(5));
    EXPECT_EQ(certificate.not_after(), WallTime(seconds(1'900'000'000)) + hours(24 * 3650));
    write("ca.pem", certificate.to_pem());
    const std::string text = run("x509 -in ca.pem -noout -text");
    EXPECT_THAT(text, HasSubstr("Version: 3"));
    EXPECT_THAT(text, HasSubstr("CA:TRUE"));
    EXPECT_THAT(text, HasSubstr("Certificate Sign"));
    EXPECT_THAT(text, HasSubstr("X509v3 Subject Key Identifier"));
    EXPECT_THAT(text, HasSubstr("ecdsa-with-SHA256"));
}

TEST_F(CertificateTest, OpensslVerifiesAServerLeaf) {
    KeyPair leaf = issue(server_spec());
    write("ca.pem", ca_.certificate().to_pem());
    write("leaf.pem", leaf.certificate_pem());
    const std::string at = " -attime 1900000000 -CAfile ca.pem ";
    EXPECT_THAT(run("verify -x509_strict -purpose sslserver" + at + "leaf.pem"),
                HasSubstr("leaf.pem: OK"));
    EXPECT_THAT(run("verify -verify_ip 10.96.0.1" + at + "leaf.pem"), HasSubstr("OK"));
    EXPECT_THAT(run("verify -verify_ip fd00::1" + at + "leaf.pem"), HasSubstr("OK"));
    EXPECT_THAT(run("verify -verify_hostname a.example.com" + at + "leaf.pem"), HasSubstr("OK"));
    int code = 0;
    run("verify -verify_ip 10.96.0.2" + at + "leaf.pem", &code);
    EXPECT_NE(code, 0);
    run("verify -purpose sslclient" + at + "leaf.pem", &code);
    EXPECT_NE(code, 0);
    run("verify -CAfile ca.pem -attime 1940000000 leaf.pem", &code);
    EXPECT_NE(code, 0) << "a year later";
    // The key that goes with it, as another program sees it.
    write("key.pem", leaf.key_pem().reveal());
    EXPECT_EQ(run("x509 -in leaf.pem -noout -pubkey"), run("pkey -in key.pem -pubout"));
}

TEST_F(CertificateTest, ReadsBackWhatItIssued) {
    CertificateSpec spec;
    spec.common_name = "kubernetes-admin";
    spec.organizations = {"kubeadm:cluster-admins", "ops"};
    spec.client = true;
    spec.lifetime = hours(48);
    KeyPair leaf = issue(spec);
    EXPECT_EQ(leaf.certificate.common_name(), "kubernetes-admin");
    EXPECT_THAT(leaf.certificate.organizations(), ElementsAre("kubeadm:cluster-admins", "ops"));
    EXPECT_FALSE(leaf.certificate.is_ca());
    EXPECT_TRUE(leaf.certificate.allows_client());
    EXPECT_FALSE(leaf.certificate.allows_server());
    EXPECT_TRUE(leaf.certificate.matches(leaf.key));
    EXPECT_FALSE(leaf.certificate.matches(ca_.key()));
    EXPECT_TRUE(leaf.certificate.is_signed_by(ca_.certificate()));
    EXPECT_FALSE(ca_.certificate().is_signed_by(leaf.certificate));
    EXPECT_EQ(leaf.certificate.not_after(), WallTime(seconds(1'900'000'000)) + hours(48));
    EXPECT_EQ(leaf.certificate.serial_hex().size(), 32u);
    Result<Certificate> parsed = Certificate::parse("comment\n" + leaf.certificate_pem() + "\n");
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, leaf.certificate);

    KeyPair server = issue(server_spec());
    EXPECT_THAT(server.certificate.dns_names(),
                ElementsAre("kubernetes", "kubernetes.default.svc", "*.example.com", "localhost"));
    EXPECT_THAT(server.certificate.ip_addresses(),
                ElementsAre("10.96.0.1", "127.0.0.1", "fd00::1"));
    EXPECT_TRUE(server.certificate.is_valid_for("kubernetes"));
    EXPECT_TRUE(server.certificate.is_valid_for("a.example.com"));
    EXPECT_TRUE(server.certificate.is_valid_for("fd00:0:0::1"));
    EXPECT_FALSE(server.certificate.is_valid_for("a.b.example.com"));
    EXPECT_FALSE(server.certificate.is_valid_for("kube-apiserver"))
        << "the common name is no host name";
    EXPECT_FALSE(server.certificate.is_valid_for("10.96.0.9"));
}

TEST_F(CertificateTest, NamesLongerThanX520AllowsWork) {
    CertificateSpec spec;
    spec.common_name =
        std::string(63, 'n') + "_" + std::string(63, 't');  // The etcd user of a control plane.
    spec.client = true;
    KeyPair leaf = issue(spec);
    EXPECT_EQ(leaf.certificate.common_name(), spec.common_name);
    write("ca.pem", ca_.certificate().to_pem());
    write("leaf.pem", leaf.certificate_pem());
    EXPECT_THAT(run("verify -purpose sslclient -attime 1900000000 -CAfile ca.pem leaf.pem"),
                HasSubstr("OK"));
    EXPECT_THAT(run("x509 -in leaf.pem -noout -subject -nameopt utf8"),
                HasSubstr(spec.common_name));
}

TEST_F(CertificateTest, SpecsThatNoCertificateCanCarry) {
    CertificateSpec spec = server_spec();
    spec.ip_addresses = {"10.0.0.300"};
    EXPECT_THAT(issue_error(spec), HasSubstr("ip_addresses: \"10.0.0.300\""));
    spec = server_spec();
    spec.dns_names = {"a b"};
    EXPECT_THAT(issue_error(spec), HasSubstr("dns_names: \"a b\""));
    for (const char* name : {"", "a.*.b", "*", "*.", "a*.b", "*.*.a", "x\ny"}) {
        spec.dns_names = {name};
        EXPECT_THAT(issue_error(spec), HasSubstr("dns_names")) << name;
    }
    spec = server_spec();
    spec.common_name = "a\nb";
    EXPECT_THAT(issue_error(spec), HasSubstr("common_name"));
    spec.common_name = "\xff\xfe";
    EXPECT_THAT(issue_error(spec), HasSubstr("UTF-8"));
    spec = server_spec();
    spec.organizations = {std::string(2000, 'o')};
    EXPECT_THAT(issue_error(spec), HasSubstr("organizations"));
    spec = server_spec();
    spec.lifetime = Duration::zero();
    EXPECT_THAT(issue_error(spec), HasSubstr("lifetime"));
    EXPECT_THAT(issue_error(CertificateSpec{}), HasSubstr("common name or an alternative name"));
}

TEST_F(CertificateTest, ALeafWithoutSubjectHasCriticalAlternativeNames) {
    CertificateSpec spec;
    spec.dns_names = {"only.example.com"};
    spec.server = true;
    write("leaf.pem", issue(spec).certificate_pem());
    write("ca.pem", ca_.certificate().to_pem());
    EXPECT_THAT(run("x509 -in leaf.pem -noout -text"),
                HasSubstr("Subject Alternative Name: critical"));
    EXPECT_THAT(run("verify -x509_strict -attime 1900000000 -CAfile ca.pem leaf.pem"),
                HasSubstr("OK"));
}

TEST_F(CertificateTest, ALeafNeverOutlivesItsAuthority) {
    CertificateAuthority brief = CertificateAuthority::create(keys_, "brief", now_, hours(10));
    Result<KeyPair> leaf = brief.issue(server_spec(), keys_, now_);
    ASSERT_TRUE(leaf.ok());
    EXPECT_EQ(leaf->certificate.not_after(), brief.certificate().not_after());
    Result<KeyPair> late = brief.issue(server_spec(), keys_, now_ + hours(11));
    ASSERT_FALSE(late.ok());
    EXPECT_EQ(late.error().code(), Code::kFailedPrecondition);
    EXPECT_THAT(late.error().message(), HasSubstr("expired at 2030-03-18"));
}

TEST_F(CertificateTest, AuthoritiesOfEveryKeyTypeSign) {
    struct Case {
        const char* key_command;
        const char* name;
    };
    for (const Case& c :
         {Case{"genrsa -out ca.key 2048", "rsa"},
          Case{"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out ca.key", "p384"},
          Case{"genpkey -algorithm ED25519 -out ca.key", "ed25519"}}) {
        SCOPED_TRACE(c.name);
        run(c.key_command);
        run(std::string("req -x509 -new -key ca.key -subj /O=x/CN=") + c.name +
            " -days 36500 -addext keyUsage=critical,keyCertSign,digitalSignature -out ca.pem");
        Result<CertificateAuthority> authority =
            CertificateAuthority::parse(read("ca.pem"), Secret(read("ca.key")));
        ASSERT_TRUE(authority.ok()) << authority.error().to_string();
        Result<KeyPair> leaf = authority->issue(server_spec(), keys_, now_);
        ASSERT_TRUE(leaf.ok()) << leaf.error().to_string();
        EXPECT_TRUE(leaf->certificate.is_signed_by(authority->certificate()));
        write("leaf.pem", leaf->certificate_pem());
        EXPECT_THAT(run("verify -x509_strict -attime 1900000000 -CAfile ca.pem leaf.pem"),
                    HasSubstr("OK"));
    }
}

TEST_F(CertificateTest, AnAdoptedAuthorityIsCheckedAndNamedInErrors) {
    KeyPair leaf = issue(server_spec());
    Result<CertificateAuthority> not_ca =
        CertificateAuthority::parse(leaf.certificate_pem(), leaf.key_pem());
    ASSERT_FALSE(not_ca.ok());
    EXPECT_THAT(not_ca.error().message(), HasSubstr("\"kube-apiserver\" is not an authority's"));
    Result<CertificateAuthority> mixed =
        CertificateAuthority::parse(ca_.certificate().to_pem(), leaf.key_pem());
    ASSERT_FALSE(mixed.ok());
    EXPECT_THAT(mixed.error().message(),
                HasSubstr("does not belong to the certificate \"kubernetes\""));
    Result<CertificateAuthority> swapped = CertificateAuthority::parse(
        ca_.key().to_pem().reveal(), Secret(ca_.certificate().to_pem()));
    ASSERT_FALSE(swapped.ok());
    EXPECT_THAT(swapped.error().message(),
                HasSubstr("PEM block 1 is a EC PRIVATE KEY, not a CERTIFICATE"));

    // During a CA rotation the bundle holds two; the key picks its own.
    CertificateAuthority other = CertificateAuthority::create(keys_, "other", now_);
    Result<CertificateAuthority> picked = CertificateAuthority::parse(
        other.certificate().to_pem() + ca_.certificate().to_pem(), ca_.key().to_pem());
    ASSERT_TRUE(picked.ok());
    EXPECT_EQ(picked->certificate(), ca_.certificate());
}

TEST_F(CertificateTest, PinIsKubeadmsDiscoveryHash) {
    write("ca.pem", ca_.certificate().to_pem());
    run("x509 -in ca.pem -noout -pubkey -out pub.pem");
    run("pkey -pubin -in pub.pem -outform DER -out pub.der");
    const std::string digest = run("dgst -sha256 -r pub.der");
    EXPECT_EQ(ca_.certificate().public_key_pin(), "sha256:" + digest.substr(0, 64));
}

TEST_F(CertificateTest, BrokenPemSaysWhatIsWrong) {
    const std::string good = ca_.certificate().to_pem();
    auto message = [](const std::string& pem) {
        Result<std::vector<Certificate>> bundle = Certificate::parse_bundle(pem);
        return bundle.ok() ? std::string("no error") : bundle.error().to_string();
    };
    EXPECT_THAT(message(""), HasSubstr("InvalidArgument: the text is empty"));
    EXPECT_THAT(message(" \n"), HasSubstr("empty"));
    EXPECT_THAT(message("bm90IHBlbQ=="), HasSubstr("not PEM"));
    EXPECT_THAT(message(good + good.substr(0, 100)),
                HasSubstr("PEM block 2 (CERTIFICATE) has no END line"));
    std::string cut = good;
    cut.erase(good.find('\n') + 20, 3);
    EXPECT_THAT(message(cut),
                testing::AnyOf(HasSubstr("base64"), HasSubstr("not an X.509 certificate")));
    std::string damaged = good;
    damaged[good.find('\n') + 2] = 'x';
    EXPECT_THAT(message(good + damaged), HasSubstr("PEM block 2: not an X.509 certificate"));
    EXPECT_THAT(message("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
                HasSubstr("is empty"));
    EXPECT_THAT(message("-----BEGIN CERT"), HasSubstr("broken BEGIN line"));
    EXPECT_THAT(message(good + std::string(ca_.key().to_pem().reveal())),
                HasSubstr("PEM block 2 is a EC PRIVATE KEY"));
    EXPECT_EQ(message(good + "\n# two\n" + good), "no error");
}

TEST_F(CertificateTest, KeyPairsBelongTogether) {
    KeyPair leaf = issue(server_spec());
    EXPECT_TRUE(parse_key_pair(leaf.certificate_pem(), leaf.key_pem()).ok());
    Result<KeyPair> wrong = parse_key_pair(leaf.certificate_pem(), ca_.key().to_pem());
    ASSERT_FALSE(wrong.ok());
    EXPECT_THAT(wrong.error().message(), HasSubstr("does not belong"));
    Result<KeyPair> broken = parse_key_pair("x", leaf.key_pem());
    EXPECT_THAT(broken.error().message(), HasSubstr("certificate: the text is not PEM"));
    Result<KeyPair> no_key = parse_key_pair(leaf.certificate_pem(), Secret());
    EXPECT_THAT(no_key.error().message(), HasSubstr("private key: the text is empty"));
}

TEST_F(CertificateTest, VerifySaysWhichAndWhy) {
    KeyPair leaf = issue(server_spec());
    const std::vector<Certificate> roots = {ca_.certificate()};
    EXPECT_TRUE(verify(leaf.certificate, {}, roots, now_, Purpose::kServer).ok());
    Result<void> client = verify(leaf.certificate, {}, roots, now_, Purpose::kClient);
    ASSERT_FALSE(client.ok());
    EXPECT_EQ(client.error().code(), Code::kUnauthenticated);
    Result<void> late = verify(leaf.certificate, {}, roots, now_ + hours(24 * 366));
    EXPECT_THAT(late.error().message(),
                HasSubstr("\"kube-apiserver\" expired at 2031-03-17T17:46:40Z"));
    Result<void> early = verify(leaf.certificate, {}, roots, now_ - hours(1));
    EXPECT_THAT(early.error().message(), HasSubstr("is valid from"));
    CertificateAuthority other = CertificateAuthority::create(keys_, "kubernetes", now_);
    Result<void> foreign = verify(leaf.certificate, {}, {other.certificate()}, now_);
    ASSERT_FALSE(foreign.ok());
    EXPECT_THAT(foreign.error().message(), HasSubstr("kube-apiserver"));
    EXPECT_FALSE(verify(leaf.certificate, {}, {}, now_).ok());
    EXPECT_TRUE(verify(leaf.certificate, {}, {other.certificate(), ca_.certificate()}, now_).ok());
}

TEST_F(CertificateTest, VerifyUsesIntermediates) {
    run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out root.key");
    run("req -x509 -new -key root.key -subj /CN=root -days 36500 -out root.pem");
    run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out mid.key");
    run("req -new -key mid.key -subj /CN=mid -out mid.csr");
    write("ext.cnf",
          "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier="
          "hash\n");
    run("x509 -req -in mid.csr -CA root.pem -CAkey root.key -CAcreateserial -days 36500 -extfile "
        "ext.cnf -out mid.pem");
    Result<CertificateAuthority> mid =
        CertificateAuthority::parse(read("mid.pem"), Secret(read("mid.key")));
    ASSERT_TRUE(mid.ok()) << mid.error().to_string();
    Result<Certificate> root = Certificate::parse(read("root.pem"));
    ASSERT_TRUE(root.ok());
    Result<KeyPair> leaf = mid->issue(server_spec(), keys_, now_);
    ASSERT_TRUE(leaf.ok());
    EXPECT_FALSE(verify(leaf->certificate, {}, {*root}, now_).ok());
    EXPECT_TRUE(verify(leaf->certificate, {mid->certificate()}, {*root}, now_).ok());
    EXPECT_TRUE(verify(leaf->certificate, {}, {mid->certificate()}, now_).ok())
        << "an intermediate as anchor";
}

TEST_F(CertificateTest, RenewalReasons) {
    const CertificateSpec spec = server_spec();
    KeyPair leaf = issue(spec);
    auto reason = [&](const CertificateSpec& wanted, Duration later, Duration before = hours(24)) {
        return renewal_reason(leaf.certificate, leaf.key, wanted, ca_.certificate(),
                              add(now_, later), before)
            .value_or("none");
    };
    EXPECT_EQ(reason(spec, hours(0)), "none");
    EXPECT_EQ(reason(spec, 363 * kDay), "none");
    EXPECT_THAT(reason(spec, 364 * kDay + hours(1)), HasSubstr("it expires at 2031-03-17"));
    EXPECT_THAT(reason(spec, 366 * kDay), HasSubstr("it expired at"));
    EXPECT_THAT(reason(spec, -hours(25)), HasSubstr("valid only from"));
    CertificateSpec wanted = spec;
    wanted.dns_names.push_back("more.example.com");
    EXPECT_EQ(reason(wanted, hours(0)), "it lacks the name more.example.com");
    wanted = spec;
    wanted.ip_addresses.push_back("10.0.0.9");
    EXPECT_EQ(reason(wanted, hours(0)), "it lacks the address 10.0.0.9");
    wanted = spec;
    wanted.ip_addresses = {"FD00:0:0::1"};
    wanted.dns_names = {"localhost"};
    EXPECT_EQ(reason(wanted, hours(0)), "none") << "more names than asked for are fine";
    wanted = spec;
    wanted.common_name = "x";
    EXPECT_THAT(reason(wanted, hours(0)),
                HasSubstr("common name is \"kube-apiserver\", not \"x\""));
    wanted = spec;
    wanted.organizations = {"system:masters"};
    EXPECT_THAT(reason(wanted, hours(0)), HasSubstr("organizations"));
    wanted = spec;
    wanted.client = true;
    EXPECT_THAT(reason(wanted, hours(0)), HasSubstr("usage"));

    CertificateAuthority same_name = CertificateAuthority::create(keys_, "kubernetes", now_);
    EXPECT_THAT(
        *renewal_reason(leaf.certificate, leaf.key, spec, same_name.certificate(), now_, hours(1)),
        HasSubstr("not signed by the present authority"));
    EXPECT_THAT(
        *renewal_reason(leaf.certificate, ca_.key(), spec, ca_.certificate(), now_, hours(1)),
        HasSubstr("key does not belong"));
}

// A clock that was put back must not make everything anew.
TEST_F(CertificateTest, AClockThatIsLateIsNoReasonToRenew) {
    const CertificateSpec spec = server_spec();
    KeyPair leaf = issue(spec);
    for (Duration late : {Duration(minutes(6)), Duration(hours(1)), Duration(hours(23))}) {
        const WallTime then = add(now_, -late);
        EXPECT_FALSE(leaf.certificate.is_valid_at(then));
        EXPECT_TRUE(leaf.certificate.may_be_valid_at(then));
        EXPECT_EQ(renewal_reason(leaf.certificate, leaf.key, spec, ca_.certificate(), then, kDay),
                  std::nullopt);
        // All the rest is looked at as ever.
        CertificateSpec wanted = spec;
        wanted.dns_names.push_back("more.example.com");
        EXPECT_EQ(renewal_reason(leaf.certificate, leaf.key, wanted, ca_.certificate(), then, kDay),
                  "it lacks the name more.example.com");
    }
    EXPECT_FALSE(leaf.certificate.may_be_valid_at(add(now_, -25 * hours(1))));
    EXPECT_FALSE(leaf.certificate.may_be_valid_at(add(now_, 366 * kDay)));
    // One that ends soon is renewed although it seems not to have begun.
    CertificateSpec brief = spec;
    brief.lifetime = hours(12);
    leaf = issue(brief);
    EXPECT_THAT(renewal_reason(leaf.certificate, leaf.key, brief, ca_.certificate(),
                               add(now_, -hours(1)), kDay)
                    .value_or("none"),
                HasSubstr("it expires at"));
}

TEST_F(CertificateTest, ReissuingForAKeyThatStays) {
    KeyPair leaf = issue(server_spec());
    Result<Certificate> again = ca_.issue_for(leaf.key, server_spec(), keys_, now_ + hours(5));
    ASSERT_TRUE(again.ok());
    EXPECT_TRUE(again->matches(leaf.key));
    EXPECT_NE(again->serial_hex(), leaf.certificate.serial_hex());
    EXPECT_EQ(again->public_key_pin(), leaf.certificate.public_key_pin());
}

TEST_F(CertificateTest, RsaLeavesMayEncipherKeys) {
    SystemKeySource system;
    Result<Certificate> leaf =
        ca_.issue_for(system.new_key(KeyType::kRsa), server_spec(), keys_, now_);
    ASSERT_TRUE(leaf.ok());
    write("leaf.pem", leaf->to_pem());
    EXPECT_THAT(run("x509 -in leaf.pem -noout -text"), HasSubstr("Key Encipherment"));
}

// RFC 5280 section 4.1.2.5: certificates without an end say 9999.
TEST_F(CertificateTest, EndsFarAwayAreNoReasonToRenew) {
    const PrivateKey key = keys_.new_key();
    write("key.pem", key.to_pem().reveal());
    run("req -x509 -new -key key.pem -subj /CN=far -days 2900000 -out ca.pem");
    run("req -new -key key.pem -subj /CN=leaf -out leaf.csr");
    run("x509 -req -in leaf.csr -CA ca.pem -CAkey key.pem -set_serial 2 -days 2899000 -out "
        "leaf.pem");
    Result<Certificate> issuer = Certificate::parse(read("ca.pem"));
    Result<Certificate> leaf = Certificate::parse(read("leaf.pem"));
    ASSERT_TRUE(issuer.ok() && leaf.ok());
    ASSERT_GT(format_rfc3339(leaf->not_after()), "9900");
    CertificateSpec spec;
    spec.common_name = "leaf";
    spec.server = true;
    spec.client = true;
    EXPECT_EQ(renewal_reason(*leaf, key, spec, *issuer, now_, hours(24)), std::nullopt);
}

}  // namespace
}  // namespace basalt::pki
