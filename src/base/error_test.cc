#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "base/assert.h"

namespace basalt {
namespace {

using namespace std::chrono_literals;

TEST(Error, TextAndContext) {
    Error error = unavailable("connection refused");
    error.add_context("create Deployment a/b");
    EXPECT_EQ(error.to_string(), "Unavailable: create Deployment a/b: connection refused");
    EXPECT_EQ(not_found("x").context("y").to_string(), "NotFound: y: x");
}

TEST(Error, CopiesAreIndependent) {
    const Error original = aborted("conflict").with_cause(409, "Conflict");
    Error copy = original;
    copy.add_context("update").with_retry_after(2s);
    EXPECT_EQ(original.message(), "conflict");
    EXPECT_FALSE(original.retry_after().has_value());
    EXPECT_EQ(copy.message(), "update: conflict");
    EXPECT_EQ(copy.retry_after(), 2s);
    EXPECT_EQ(copy.cause_code(), 409);
    EXPECT_EQ(copy.reason(), "Conflict");
}

TEST(Error, RetriableCodes) {
    EXPECT_TRUE(aborted("").retriable());
    EXPECT_TRUE(unavailable("").retriable());
    EXPECT_TRUE(deadline_exceeded("").retriable());
    EXPECT_TRUE(resource_exhausted("").retriable());
    EXPECT_FALSE(invalid_argument("").retriable());
    EXPECT_FALSE(cancelled().retriable());
    EXPECT_FALSE(permission_denied("").retriable());
}

TEST(Error, FromErrno) {
    const Error missing = errno_error(ENOENT, "open file");
    EXPECT_EQ(missing.code(), Code::kNotFound);
    EXPECT_EQ(missing.cause_code(), ENOENT);
    EXPECT_EQ(missing.message(), "open file: No such file or directory");
    EXPECT_EQ(errno_error(ECONNREFUSED, "").code(), Code::kUnavailable);
    EXPECT_EQ(errno_error(ENOSPC, "").code(), Code::kResourceExhausted);
    EXPECT_EQ(errno_error(12345, "").code(), Code::kUnknown);
}

TEST(Error, NamesOfCodes) {
    EXPECT_EQ(code_name(Code::kFailedPrecondition), "FailedPrecondition");
    EXPECT_EQ(code_name(static_cast<Code>(99)), "Unknown");
}

TEST(Assert, BugsAreCounted) {
    const unsigned long before = bug_count();
    BASALT_BUG("for this test");
    EXPECT_EQ(bug_count(), before + 1);
}

}  // namespace
}  // namespace basalt
