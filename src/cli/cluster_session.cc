#include "cli/cluster_session.h"

#include "kube/config.h"

namespace basalt::cli {

Result<std::unique_ptr<ClusterSession>> ClusterSession::open(const ClusterFlags& flags) {
    kube::AccessQuery query;
    query.kubeconfig = flags.kubeconfig;
    query.context = flags.context;
    BASALT_ASSIGN(kube::Access access, kube::find_access(query, kube::process_environment()));
    std::unique_ptr<ClusterSession> session(new ClusterSession());
    BASALT_ASSIGN(std::shared_ptr<net::HttpTransport> transport,
                  kube::make_transport(session->loop_, access));
    kube::ClientOptions options;
    options.user_agent = "basalt";
    session->client_ =
        std::make_unique<kube::Client>(session->loop_, std::move(transport), options);
    session->namespace_name_ =
        flags.namespace_name.empty() ? access.default_namespace : flags.namespace_name;
    return session;
}

}  // namespace basalt::cli
