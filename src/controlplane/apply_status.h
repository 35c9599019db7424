// How every controller of this folder writes a status.
#pragma once

#include "controller/apply.h"
#include "data/value.h"
#include "kube/cache.h"

namespace basalt::controlplane {

/// Makes `status` the complete status of `live`, an object of `cache`; writes only what differs,
/// and shows it to the cache at once. Returns the object as it is then; `live` for one that is
/// gone.
async::Task<Result<data::SharedValue>> apply_status(controller::Applier& applier,
                                                    kube::Cache& cache, data::SharedValue live,
                                                    data::Value status);

}  // namespace basalt::controlplane
