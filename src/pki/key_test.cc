#include "pki/key.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pki/openssl_cli.h"

namespace basalt::pki {
namespace {

using testing::HasSubstr;
using testing::Not;

class KeyTest : public OpensslCli {};

std::string error_of(const Result<PrivateKey>& result) {
    if (result.ok()) return "no error";
    EXPECT_EQ(result.error().code(), Code::kInvalidArgument);
    return result.error().message();
}

TEST_F(KeyTest, EveryTypeGoesThroughPemAndOpensslReadsIt) {
    SystemKeySource keys;
    for (KeyType type : {KeyType::kEcdsaP256, KeyType::kEcdsaP384, KeyType::kEcdsaP521,
                         KeyType::kRsa, KeyType::kEd25519}) {
        SCOPED_TRACE(key_type_name(type));
        PrivateKey key = keys.new_key(type);
        EXPECT_EQ(key.type(), type);
        Secret pem = key.to_pem();
        Result<PrivateKey> again = PrivateKey::parse(pem);
        ASSERT_TRUE(again.ok()) << again.error().to_string();
        EXPECT_EQ(again->type(), type);
        EXPECT_EQ(again->public_der(), key.public_der());
        EXPECT_EQ(again->to_pem(), pem);
        write("key.pem", pem.reveal());
        EXPECT_EQ(run("pkey -in key.pem -pubout"), key.public_pem());
        Result<std::string> public_der = parse_public_key(key.public_pem());
        ASSERT_TRUE(public_der.ok());
        EXPECT_EQ(*public_der, key.public_der());
    }
}

TEST_F(KeyTest, WritesTheFormatsThatKubeadmWrites) {
    SystemKeySource keys;
    EXPECT_TRUE(keys.new_key(KeyType::kEcdsaP256)
                    .to_pem()
                    .reveal()
                    .starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
    EXPECT_TRUE(keys.new_key(KeyType::kRsa)
                    .to_pem()
                    .reveal()
                    .starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    EXPECT_TRUE(keys.new_key(KeyType::kEd25519)
                    .to_pem()
                    .reveal()
                    .starts_with("-----BEGIN PRIVATE KEY-----\n"));
}

TEST_F(KeyTest, ReadsWhatOpensslWrites) {
    struct Case {
        const char* command;
        KeyType type;
    };
    for (const Case& c : {
             Case{"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k.pem",
                  KeyType::kEcdsaP256},
             Case{"ecparam -name prime256v1 -genkey -out k.pem",
                  KeyType::kEcdsaP256},  // EC PARAMETERS first
             Case{"genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k.pem", KeyType::kRsa},
             Case{"genrsa -traditional -out k.pem 2048", KeyType::kRsa},
             Case{"genpkey -algorithm ED25519 -out k.pem", KeyType::kEd25519},
         }) {
        SCOPED_TRACE(c.command);
        run(c.command);
        Result<PrivateKey> key = PrivateKey::parse(read("k.pem"));
        ASSERT_TRUE(key.ok()) << key.error().to_string();
        EXPECT_EQ(key->type(), c.type);
        EXPECT_EQ(run("pkey -in k.pem -pubout"), key->public_pem());
    }
}

TEST_F(KeyTest, ErrorsSayWhatIsWrongAndNeverQuoteTheKey) {
    run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k.pem");
    const std::string good = read("k.pem");
    const std::string body = good.substr(good.find('\n') + 1, 40);

    EXPECT_THAT(error_of(PrivateKey::parse("")), HasSubstr("empty"));
    EXPECT_THAT(error_of(PrivateKey::parse("hello")), HasSubstr("not PEM"));
    EXPECT_THAT(error_of(PrivateKey::parse(good.substr(0, good.size() / 2))), HasSubstr("cut off"));

    std::string broken = good;
    broken[broken.find(body) + 5] = '!';
    EXPECT_THAT(error_of(PrivateKey::parse(broken)), HasSubstr("not valid base64"));
    EXPECT_THAT(error_of(PrivateKey::parse(broken)), Not(HasSubstr(body.substr(8, 20))));

    std::string damaged = good;
    damaged[damaged.find(body) + 3] = damaged[damaged.find(body) + 3] == 'A' ? 'B' : 'A';
    EXPECT_THAT(error_of(PrivateKey::parse(damaged)), HasSubstr("does not hold a valid key"));

    run("req -x509 -new -key k.pem -subj /CN=x -days 1 -out c.pem");
    EXPECT_THAT(error_of(PrivateKey::parse(read("c.pem"))),
                HasSubstr("holds a CERTIFICATE, not a private key"));
    run("pkey -in k.pem -pubout -out pub.pem");
    EXPECT_THAT(error_of(PrivateKey::parse(read("pub.pem"))), HasSubstr("PUBLIC KEY"));
    run("pkcs8 -topk8 -in k.pem -passout pass:secret -out enc.pem");
    EXPECT_THAT(error_of(PrivateKey::parse(read("enc.pem"))), HasSubstr("encrypted"));
    run("ec -in k.pem -aes128 -passout pass:secret -out enc2.pem");
    EXPECT_THAT(error_of(PrivateKey::parse(read("enc2.pem"))), HasSubstr("encrypted"));
    run("ecparam -name secp256k1 -genkey -noout -out k1.pem");
    EXPECT_THAT(error_of(PrivateKey::parse(read("k1.pem"))), HasSubstr("P-256"));
    run("ecparam -name prime256v1 -param_enc explicit -genkey -noout -out explicit.pem");
    EXPECT_THAT(error_of(PrivateKey::parse(read("explicit.pem"))),
                HasSubstr("must name its curve"));
    run("genrsa -out short.pem 512");
    EXPECT_THAT(error_of(PrivateKey::parse(read("short.pem"))), HasSubstr("512 bits"));
    run("genpkey -algorithm X25519 -out x.pem");
    EXPECT_THAT(error_of(PrivateKey::parse(read("x.pem"))), HasSubstr("not supported"));
    EXPECT_THAT(error_of(PrivateKey::parse(std::string(kMaxPemSize + 1, 'x'))),
                HasSubstr("larger"));

    EXPECT_FALSE(parse_public_key("x").ok());
    EXPECT_FALSE(parse_public_key(good).ok());
}

TEST_F(KeyTest, ToleratesWindowsLinesIndentationAndSurroundingText) {
    run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k.pem");
    const std::string good = read("k.pem");
    std::string crlf, indented = "here is my key:\n";
    for (char c : good) {
        if (c == '\n') {
            crlf += "\r\n";
            indented += "\n    ";
        } else {
            crlf += c;
            indented += c;
        }
    }
    EXPECT_TRUE(PrivateKey::parse(crlf).ok());
    EXPECT_TRUE(PrivateKey::parse(indented).ok());
    EXPECT_TRUE(PrivateKey::parse(good.substr(0, good.size() - 1)).ok()) << "no newline at the end";
}

TEST(KeySourceTest, SimIsAFunctionOfItsSeed) {
    SimKeySource a(7), b(7), c(8);
    std::set<std::string> keys;
    for (int i = 0; i < 20; ++i) {
        PrivateKey key = a.new_key();
        EXPECT_EQ(key.to_pem(), b.new_key().to_pem());
        keys.insert(key.public_pem());
        keys.insert(c.new_key().public_pem());
        EXPECT_EQ(key.type(), KeyType::kEcdsaP256);
    }
    EXPECT_EQ(keys.size(), 40u);
    EXPECT_EQ(a.new_serial(), b.new_serial());
    EXPECT_EQ(a.random_text(16, KeySource::kTokenAlphabet),
              b.random_text(16, KeySource::kTokenAlphabet));
    EXPECT_NE(a.random_bytes(16), a.random_bytes(16));
}

TEST(KeySourceTest, ASimKeySignsAndVerifies) {
    SimKeySource source(1);
    PrivateKey key = source.new_key(KeyType::kRsa);
    EXPECT_EQ(key.bits(), 256);
    Result<PrivateKey> again = PrivateKey::parse(key.to_pem());
    ASSERT_TRUE(again.ok()) << again.error().to_string();
}

TEST(KeySourceTest, SerialsArePositiveAndTextsUseTheWholeAlphabet) {
    SystemKeySource source;
    std::set<std::string> serials;
    for (int i = 0; i < 200; ++i) {
        std::string serial = source.new_serial();
        ASSERT_EQ(serial.size(), 16u);
        EXPECT_EQ(serial[0] & 0x80, 0);
        EXPECT_NE(serial[0], 0);
        serials.insert(serial);
    }
    EXPECT_EQ(serials.size(), 200u);
    Secret text = source.random_text(5000, KeySource::kTokenAlphabet);
    std::set<char> seen(text.reveal().begin(), text.reveal().end());
    EXPECT_EQ(seen.size(), KeySource::kTokenAlphabet.size());
    EXPECT_EQ(source.random_text(300, "ab").size(), 300u);
}

}  // namespace
}  // namespace basalt::pki
