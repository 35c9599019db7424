#include "local/kubectl.h"

#include <sys/stat.h>

#include <gtest/gtest.h>

#include "linux/file.h"
#include "linux/linux_test_support.h"

namespace basalt::local {
namespace {

using namespace std::chrono_literals;

/// A program in kubectl's place, which writes down what it was asked.
class KubectlTest : public ::testing::Test {
 protected:
    void answer(const std::string& script) {
        ASSERT_TRUE(linux::write_file_atomically(
                        program_, "#!/bin/sh\ncd " + directory_.path() +
                                      "\necho \"$@\" >> asked\nenv > environment\n" + script)
                        .ok());
        ASSERT_EQ(::chmod(program_.c_str(), 0700), 0);
    }
    std::string read(const std::string& name) {
        return linux::read_file(directory_.path() + "/" + name).value_or("");
    }

    linux::TemporaryDirectory directory_;
    const std::string program_ = directory_.path() + "/kubectl";
    const Kubectl kubectl_{program_, "/etc/admin.conf"};
};

TEST_F(KubectlTest, AppliesWhatItIsGiven) {
    answer("cat > manifests\n");
    ASSERT_TRUE(kubectl_.apply("kind: Namespace\n").ok());
    EXPECT_EQ(read("manifests"), "kind: Namespace\n");
    EXPECT_EQ(read("asked").rfind("--kubeconfig /etc/admin.conf apply --server-side", 0), 0u);
    EXPECT_NE(read("environment").find("NO_PROXY=*"), std::string::npos);
}

TEST_F(KubectlTest, FailuresTellWhatItSaid) {
    answer("echo 'namespaces \"x\" not found' >&2\nexit 1\n");
    Result<std::string> ran = kubectl_.run({"get", "namespace", "x"});
    ASSERT_FALSE(ran.ok());
    EXPECT_NE(ran.error().message().find("not found"), std::string::npos);
}

TEST_F(KubectlTest, WaitsUntilTheAnswerIsThere) {
    answer("test -e second && echo ' ok ' && exit 0\ntouch second\nexit 1\n");
    EXPECT_TRUE(kubectl_.wait_for_api(20s).ok());
    EXPECT_EQ(read("asked"),
              "--kubeconfig /etc/admin.conf get --raw /readyz\n"
              "--kubeconfig /etc/admin.conf get --raw /readyz\n");
}

TEST_F(KubectlTest, GivesUpWithTheLastAnswer) {
    answer("echo 1\n");
    Result<void> waited = kubectl_.wait_for({"get", "x"}, "2", 1ms);
    ASSERT_FALSE(waited.ok());
    EXPECT_EQ(waited.error().code(), Code::kDeadlineExceeded);
    EXPECT_EQ(waited.error().message(), "kubectl get x: wanted \"2\", got \"1\"");
}

}  // namespace
}  // namespace basalt::local
