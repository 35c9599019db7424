#include "controlplane/apply_status.h"

namespace basalt::controlplane {

async::Task<Result<data::SharedValue>> apply_status(controller::Applier& applier,
                                                    kube::Cache& cache, data::SharedValue live,
                                                    data::Value status) {
    const kube::Resource resource = cache.options().resource;
    data::Value intent = kube::make_object(resource, kube::key_of(*live));
    intent.set("status", std::move(status));
    kube::WriteOptions options;
    options.subresource = "status";
    Result<controller::Applied> applied = co_await applier.apply(resource, intent, live, options);
    if (!applied.ok()) {
        if (applied.error().code() == Code::kNotFound) co_return live;
        co_return std::move(applied).error().context("write the status");
    }
    if (applied->written) cache.observe_write(*applied->object);
    co_return applied->object;
}

}  // namespace basalt::controlplane
