#include <fmt/format.h>
#include "base/log.h"
#include "data/json.h"
#include "data/yaml.h"
#include "tests/sim/instance.h"
#include "tests/sim/world.h"
using namespace basalt;
using namespace basalt::sim;
using namespace std::chrono_literals;
int main(int argc, char**) {
    LogOptions o; o.level = argc > 1 ? LogLevel::kDebug : LogLevel::kWarn; configure_log(o);
    WorldOptions w; w.calm = true;
    World world(w);
    world.verbose = true;
    world.make_datastore("default");
    world.start_instance();
    const kube::Resource res("kamaji.clastix.io/v1alpha1", "tenantcontrolplanes", "TenantControlPlane");
    Value tcp = data::parse_yaml(R"(
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata: {name: a, namespace: default}
spec:
  controlPlane: {deployment: {replicas: 1}, service: {serviceType: LoadBalancer}}
  kubernetes: {version: v1.36.3}
  networkProfile: {port: 6443}
  addons: {coreDNS: {}, kubeProxy: {}, konnectivity: {}}
)").value();
    world.loop().run_for(5s);
    auto r = world.api().create(res, tcp, "user");
    if (!r.ok()) fmt::print("{}\n", r.error().to_string());
    world.loop().run_for(120s);
    fmt::print("{}\n", data::to_pretty_json((*world.api().get(res, kube::ObjectKey("default","a")))["status"]));
    for (auto& f : world.faults) fmt::print("FAULT {}\n", f);
    world.loop().run_for(30min);
}
