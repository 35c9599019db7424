// KubeconfigGenerator: a kubeconfig for one user in every control plane that is selected, kept
// valid.
//
// A pass goes over the selected control planes. For each it has the Secret "<control
// plane>-<generator>" hold a kubeconfig whose client certificate is signed by the tenant's CA, with
// the address and CA of one of the control plane's own admin kubeconfigs. What is good is left
// alone; the certificate is renewed kRenewBefore its end, when user, groups or CA change, and when
// the rotate annotation asks for it. One that cannot be written now is tried again after all
// others. Secrets of control planes that are no longer selected, and of generators that are gone,
// are deleted: they are found by their labels.
//
// A Secret that this generator did not make is never touched: its labels, or its owner together
// with its field manager, have to say that it did.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "controller/apply.h"
#include "controller/controller.h"
#include "controller/events.h"
#include "controller/manager.h"
#include "controlplane/kubeconfig_plan.h"
#include "controlplane/resources.h"

namespace basalt::controlplane {

class KubeconfigGeneratorController {
 public:
    KubeconfigGeneratorController(controller::Manager& manager, pki::KeySource& keys,
                                  controller::EventRecorder& events);
    ~KubeconfigGeneratorController();
    KubeconfigGeneratorController(const KubeconfigGeneratorController&) = delete;
    KubeconfigGeneratorController& operator=(const KubeconfigGeneratorController&) = delete;

 private:
    /// What was found right last time: nothing has to be parsed again while it stays.
    struct Known {
        std::string fingerprint;
        WallTime renew_at;
    };
    struct Pass {
        std::string name;
        data::SharedValue generator;
        std::vector<data::SharedValue> targets;
        GeneratorStatusInputs status;
        std::optional<WallTime> renew_at;
    };

    async::Task<Result<controller::Outcome>> reconcile(controller::Key key);
    async::Task<Result<void>> run(Pass* pass);
    async::Task<Result<void>> process(Pass* pass, data::SharedValue control_plane);
    async::Task<Result<data::SharedValue>> find_existing(kube::ObjectKey key);
    async::Task<Result<void>> remove_others(std::string generator,
                                            std::vector<data::SharedValue> targets);
    async::Task<Result<void>> write_status(Pass* pass);
    Result<std::vector<data::SharedValue>> select(const data::Value& generator) const;
    void watch_sources();
    std::vector<controller::Key> all_generators() const;
    std::vector<controller::Key> concerned(const kube::Change& change) const;

    controller::Manager& manager_;
    pki::KeySource& keys_;
    controller::EventRecorder& events_;
    controller::Applier applier_;
    kube::Cache& generators_;
    kube::Cache& control_planes_;
    kube::Cache& namespaces_;
    kube::Cache& own_secrets_;  ///< Of the control planes.
    kube::Cache& generated_;
    controller::Controller* controller_ = nullptr;
    std::map<std::string, std::map<kube::ObjectKey, Known>> known_;
};

}  // namespace basalt::controlplane
