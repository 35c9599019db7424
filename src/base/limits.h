// Named limits of more than one module, with their reasons. A limit of one module lives in that
// module.
#pragma once

#include <cstddef>

namespace basalt::limits {

inline constexpr size_t kKiB = 1024;
inline constexpr size_t kMiB = 1024 * kKiB;

/// Nesting of a JSON or YAML document. API objects stay below 20, CRD schemas below 40; parsing,
/// printing and destroying recurse, so this also bounds the stack they use.
inline constexpr size_t kMaxDocumentDepth = 64;

/// Text of one JSON or YAML document. The API server refuses objects above 3 MiB (its request
/// limit) and etcd above 1.5 MiB; a LIST page of 500 large objects still fits.
inline constexpr size_t kMaxDocumentSize = 32 * kMiB;

/// Documents in one YAML stream: a manifest bundle has hundreds.
inline constexpr size_t kMaxDocumentsPerStream = 10'000;

/// Bytes of Values that the anchors and aliases of one YAML document may copy. Real manifests copy
/// kilobytes; nested aliases ("billion laughs") grow without bound.
inline constexpr size_t kMaxAliasedBytes = 32 * kMiB;

/// Operations in one JSON patch, the API server's own limit.
inline constexpr size_t kMaxPatchOperations = 10'000;

/// Bytes of Values that the copy and move operations of one JSON patch may touch: each copy may
/// double the document.
inline constexpr size_t kMaxPatchCopiedBytes = 32 * kMiB;

}  // namespace basalt::limits
