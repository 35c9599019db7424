// The openssl program as an independent judge, for tests.
#pragma once

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace basalt::pki {

class OpensslCli : public testing::Test {
 protected:
    OpensslCli() {
        std::string name = (std::filesystem::temp_directory_path() / "basalt-pki-XXXXXX").string();
        dir_ = ::mkdtemp(name.data());
    }
    ~OpensslCli() override { std::filesystem::remove_all(dir_); }

    std::string write(const std::string& name, std::string_view content) {
        std::ofstream(dir_ / name, std::ios::binary) << content;
        return (dir_ / name).string();
    }
    std::string read(const std::string& name) {
        std::ifstream in(dir_ / name, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    }
    /// Runs `openssl ARGUMENTS` in the directory; output and error text together.
    std::string run(const std::string& arguments, int* exit_code = nullptr) {
        const std::string command = "cd " + dir_.string() + " && openssl " + arguments + " 2>&1";
        std::string out;
        FILE* pipe = ::popen(command.c_str(), "r");
        std::array<char, 4096> buffer;
        while (size_t size = std::fread(buffer.data(), 1, buffer.size(), pipe))
            out.append(buffer.data(), size);
        const int code = ::pclose(pipe);
        if (exit_code) {
            *exit_code = code;
        } else {
            EXPECT_EQ(code, 0) << arguments << "\n" << out;
        }
        return out;
    }

 private:
    std::filesystem::path dir_;
};

}  // namespace basalt::pki
