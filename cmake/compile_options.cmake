# Flags and libraries that all targets share.
find_package(Threads REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json url)
find_package(OpenSSL 3.0 REQUIRED)
find_package(fmt REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(yaml REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(nghttp2 REQUIRED IMPORTED_TARGET libnghttp2)
if(BASALT_TESTS)
    find_package(GTest REQUIRED)
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)

add_library(basalt_options INTERFACE)
target_compile_options(basalt_options INTERFACE -Wall -Wextra -Wconversion -Wshadow -Wnon-virtual-dtor)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(basalt_options INTERFACE -Werror)  # clang, for fuzzers only, warns about other things.
endif()
target_compile_definitions(basalt_options INTERFACE
    BASALT_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
    BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION)
target_include_directories(basalt_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/generated)
target_link_libraries(basalt_options INTERFACE fmt::fmt Threads::Threads)

find_program(BASALT_MOLD mold)
if(BASALT_MOLD)
    target_link_options(basalt_options INTERFACE -fuse-ld=mold)
endif()
# Compiled objects are found again from another directory: a fresh clone on this machine builds in minutes.
option(BASALT_CCACHE_RELOCATABLE "let ccache share objects between source directories" OFF)
find_program(BASALT_CCACHE ccache)
if(BASALT_CCACHE AND BASALT_CCACHE_RELOCATABLE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
        CCACHE_MAXSIZE=10G ${BASALT_CCACHE})
elseif(BASALT_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${BASALT_CCACHE})
endif()

# What a configuration is built for: `cmake --build … --target tests`, `fuzzers`, `programs`, `benches`.
add_custom_target(tests)
add_custom_target(benches)
add_custom_target(fuzzers)
add_custom_target(programs)
