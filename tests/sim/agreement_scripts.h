// Scripts for agreement_test.cc. A step: `do` is create, replace, merge, json,
// apply, delete, get or list; `of` a resource; `name` the object's; `body` what
// is sent ("PRESENT" in a replace: what is there, changed by `with`).
#pragma once

namespace basalt::sim {

/// Before a policy of writePermissions is in force, and then. MODE is another word each time.
inline constexpr const char* kBeforeLimits = R"(
- {do: create, of: configmaps, name: a, body: {data: {x: "1"}}}
- {do: create, of: configmaps, name: b, body: {}}
- {do: create, of: roles, name: ours, body: {metadata: {labels: {kamaji.clastix.io/project: kamaji}}}}
- {do: create, of: roles, name: theirs, body: {}}
- {do: create, of: leases, name: l, body: {spec: {holderIdentity: a}}}
- {do: create, of: nodes, name: node-MODE, body: {}}
)";
inline constexpr const char* kUnderLimits = R"(
- {do: create, of: configmaps, name: new, body: {}}
- {do: create, of: configmaps, name: new, ns: missing-namespace, body: {}}
- {do: apply, of: configmaps, name: applied, as: one, body: {data: {x: "1"}}}
- {do: apply, of: configmaps, name: a, as: one, body: {data: {z: "1"}}}
- {do: merge, of: configmaps, name: a, body: {data: {x: "2"}}}
- {do: merge, of: configmaps, name: a, body: {data: {x: "2"}}}
- {do: merge, of: configmaps, name: a, body: {metadata: {resourceVersion: "1"}, data: {x: "4"}}}
- {do: merge, of: configmaps, name: missing, body: {data: {x: "2"}}}
- {do: replace, of: configmaps, name: a, with: {data: {x: "3"}}}
- {do: delete, of: configmaps, name: missing}
- {do: delete, of: configmaps, name: b}
- {do: create, of: configmaps, name: s-MODE, ns: kube-system, body: {}}
- {do: merge, of: configmaps, name: s-MODE, ns: kube-system, body: {data: {x: "1"}}}
- {do: delete, of: configmaps, name: s-MODE, ns: kube-system}
- {do: create, of: configmaps, name: cluster-info, ns: kube-public, body: {}}
- {do: merge, of: configmaps, name: cluster-info, ns: kube-public, body: {data: {x: "1"}}}
- {do: delete, of: configmaps, name: cluster-info, ns: kube-public}
- {do: create, of: configmaps, name: other-MODE, ns: kube-public, body: {}}
- {do: merge, of: roles, name: ours, body: {rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}}
- {do: merge, of: roles, name: ours, body: {metadata: {labels: null}}}
- {do: delete, of: roles, name: ours}
- {do: merge, of: roles, name: theirs, body: {metadata: {labels: {kamaji.clastix.io/project: kamaji}}}}
- {do: delete, of: roles, name: theirs}
- {do: create, of: roles, name: more, body: {}}
- {do: create, of: roles, name: labelled, body: {metadata: {labels: {kamaji.clastix.io/project: kamaji}}}}
- {do: create, of: leases, name: m, body: {spec: {holderIdentity: a}}}
- {do: merge, of: leases, name: l, body: {spec: {holderIdentity: b}}}
- {do: delete, of: leases, name: l}
- {do: merge, of: nodes, name: node-MODE, body: {metadata: {labels: {a: b}}}}
- {do: merge, of: nodes, name: node-MODE, sub: status, body: {status: {phase: Running}}}
- {do: delete, of: nodes, name: node-MODE}
- {do: create, of: namespaces, name: more-MODE, body: {}}
- {do: merge, of: namespaces, name: kube-public, body: {metadata: {labels: {at: MODE}}}}
- {do: merge, of: namespaces, name: kube-system, body: {metadata: {labels: {at: MODE}}}}
- {do: list, of: configmaps}
- {do: list, of: roles}
- {do: list, of: leases}
)";

struct AgreementScript {
    const char* name;
    const char* steps;
};

inline constexpr AgreementScript kAgreementScripts[] = {
    {"Documents", R"(
- {do: create, of: configmaps, name: a, body: {data: {x: "1"}}}
- {do: create, of: configmaps, name: a, body: {data: {x: "1"}}}
- {do: get, of: configmaps, name: a}
- {do: get, of: configmaps, name: missing}
- {do: replace, of: configmaps, name: a, with: {data: {x: "2"}}}
- {do: replace, of: configmaps, name: a, with: {data: {x: "2"}}}
- {do: replace, of: configmaps, name: a, with: {metadata: {resourceVersion: "1"}, data: {x: "3"}}}
- {do: merge, of: configmaps, name: a, body: {data: {w: "4"}, metadata: {labels: {l: v}}}}
- {do: merge, of: configmaps, name: a, body: {data: {w: "4"}}}
- {do: merge, of: configmaps, name: a, body: {metadata: {resourceVersion: "1"}, data: {w: "5"}}}
- {do: merge, of: configmaps, name: a, body: {data: {w: null}}}
- {do: merge, of: configmaps, name: missing, body: {data: {w: "5"}}}
- {do: json, of: configmaps, name: a, body: [{op: add, path: /data/z, value: "6"}]}
- {do: json, of: configmaps, name: a, body: [{op: test, path: /data/z, value: "7"}]}
- {do: json, of: configmaps, name: a, body: [{op: remove, path: /data/none}]}
- {do: delete, of: configmaps, name: a, options: {uid: 00000000-0000-0000-0000-000000000000}}
- {do: delete, of: configmaps, name: a}
- {do: delete, of: configmaps, name: a}
- {do: create, of: configmaps, name: a, ns: missing-namespace, body: {data: {x: "1"}}}
)"},
    {"Apply", R"(
- {do: apply, of: configmaps, name: a, as: one, body: {data: {a: "1", b: "2"}}}
- {do: apply, of: configmaps, name: a, as: one, body: {data: {a: "1", b: "2"}}}
- {do: apply, of: configmaps, name: a, as: two, force: false, body: {data: {b: "3"}}}
- {do: apply, of: configmaps, name: a, as: two, body: {data: {b: "3"}}}
- {do: apply, of: configmaps, name: a, as: one, body: {data: {a: "1"}}}
- {do: apply, of: configmaps, name: a, as: two, body: {metadata: {labels: {l: v}}}}
- {do: merge, of: configmaps, name: a, as: editor, body: {data: {a: "9", e: "1"}}}
- {do: apply, of: configmaps, name: a, as: one, force: false, body: {data: {a: "1"}}}
- {do: apply, of: configmaps, name: a, as: one, body: {data: {a: "1"}}}
- {do: apply, of: configmaps, name: a, as: three, body: {data: {a: "1"}}}
- {do: apply, of: configmaps, name: a, as: one, body: {}}
- {do: apply, of: configmaps, name: a, as: three, body: {}}
- {do: get, of: configmaps, name: a}
- {do: apply, of: configmaps, name: a, as: one, body: {metadata: {resourceVersion: "1"}, data: {a: "1"}}}
- {do: apply, of: configmaps, name: b, as: one, body: {metadata: {uid: 00000000-0000-0000-0000-000000000000}}}
- {do: merge, of: configmaps, name: a, as: editor, body: {data: null}}
- {do: get, of: configmaps, name: a}
)"},
    {"ApplyMetadata", R"(
- {do: apply, of: configmaps, name: a, as: one, body: {metadata: {labels: {a: "1", b: "2"}, annotations: {c: "3"}, finalizers: [x.io/one, x.io/two], ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: o, uid: 11111111-0000-0000-0000-000000000000}]}}}
- {do: apply, of: configmaps, name: a, as: two, body: {metadata: {finalizers: [x.io/three], ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: p, uid: 22222222-0000-0000-0000-000000000000}]}}}
- {do: apply, of: configmaps, name: a, as: one, body: {metadata: {labels: {a: "1"}, finalizers: [x.io/two]}}}
- {do: merge, of: configmaps, name: a, as: editor, body: {metadata: {finalizers: [x.io/two, x.io/four]}}}
- {do: apply, of: configmaps, name: a, as: one, body: {metadata: {labels: {a: "1"}, finalizers: [x.io/two]}}}
- {do: apply, of: configmaps, name: a, as: one, body: {metadata: {labels: {a: "1"}}}}
)"},
    {"Deployment", R"(
- do: apply
  of: deployments
  name: d
  as: one
  body: &deployment
    metadata: {labels: {app: d}}
    spec:
      replicas: 2
      selector: {matchLabels: {app: d}}
      strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 100%, maxUnavailable: 0}}
      template:
        metadata: {labels: {app: d}}
        spec:
          serviceAccountName: default
          automountServiceAccountToken: false
          enableServiceLinks: false
          securityContext: {runAsNonRoot: true, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
          nodeSelector: {disk: ssd}
          tolerations: [{key: a, operator: Exists}]
          topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: d}}}]
          containers:
          - name: one
            image: example.com/one:v1
            imagePullPolicy: IfNotPresent
            command: [run]
            args: [-v]
            env: [{name: A, value: "1"}, {name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
            ports: [{name: p, containerPort: 80}]
            resources: {requests: {cpu: 50m, memory: 64Mi}}
            volumeMounts: [{name: v, mountPath: /v, readOnly: true}, {name: w, mountPath: /w}]
            startupProbe: {httpGet: {path: /healthz, port: 80, scheme: HTTPS}, periodSeconds: 1}
            livenessProbe: {httpGet: {path: /healthz, port: 80}}
            securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
            terminationMessagePolicy: FallbackToLogsOnError
          - {name: two, image: example.com/two:v1, ports: [{containerPort: 81, protocol: UDP}]}
          volumes:
          - {name: v, projected: {defaultMode: 288, sources: [{secret: {name: s, items: [{key: a, path: a}]}}]}}
          - {name: w, emptyDir: {sizeLimit: 64Mi}}
          - {name: x, configMap: {name: c}}
          - {name: u, secret: {secretName: c}}
- {do: apply, of: deployments, name: d, as: one, body: *deployment}
- {do: merge, of: deployments, name: d, as: editor, body: {spec: {replicas: 5, template: {metadata: {annotations: {e: "1"}}}}}}
- {do: apply, of: deployments, name: d, as: one, body: *deployment}
- {do: json, of: deployments, name: d, as: editor, body: [{op: replace, path: /spec/template/spec/containers/0/args, value: [-x]}, {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: Z, value: z}}, {op: add, path: /spec/template/spec/containers/-, value: {name: three, image: i}}]}
- {do: apply, of: deployments, name: d, as: one, body: *deployment}
- {do: json, of: deployments, name: d, as: editor, body: [{op: remove, path: /spec/template/spec/containers/1}]}
- {do: apply, of: deployments, name: d, as: one, body: *deployment}
- do: apply
  of: deployments
  name: d
  as: one
  body:
    metadata: {annotations: {note: "1"}}
    spec:
      replicas: 0
      selector: {matchLabels: {app: d}}
      template:
        metadata: {labels: {app: d, more: "1"}}
        spec:
          nodeSelector: {disk: hdd}
          containers:
          - {name: one, image: example.com/one:v2, env: [{name: A, value: "2"}], livenessProbe: {httpGet: {path: /livez, port: 80, scheme: HTTPS}}}
          volumes:
          - {name: w, emptyDir: {}}
- {do: merge, of: deployments, name: d, as: editor, body: {spec: {selector: {matchLabels: {other: "1"}}}}}
- {do: merge, of: deployments, name: d, as: editor, body: {status: {replicas: 3}}}
- {do: merge, of: deployments, name: d, as: editor, sub: status, body: {status: {replicas: 3, observedGeneration: 1, conditions: [{type: Available, status: "True", lastTransitionTime: "2025-01-01T00:00:00Z", lastUpdateTime: "2025-01-01T00:00:00Z"}]}}}
- {do: apply, of: deployments, name: d, as: one, body: {spec: {selector: {matchLabels: {app: d}}, template: {metadata: {labels: {app: d}}, spec: {containers: [{name: one, image: i}]}}}}}
- {do: get, of: deployments, name: d}
)"},
    {"OtherKinds", R"(
- {do: apply, of: secrets, name: s, as: one, body: {data: {a: YQ==}}}
- {do: apply, of: secrets, name: s, as: one, body: {type: example.com/x, data: {a: YQ==}}}
- {do: apply, of: services, name: s, as: one, body: {spec: {type: LoadBalancer, selector: {app: a}, ports: [{name: a, protocol: TCP, port: 80, targetPort: 80}, {name: b, port: 81}]}}}
- {do: apply, of: services, name: s, as: one, body: {spec: {type: LoadBalancer, selector: {app: a}, ports: [{name: a, protocol: TCP, port: 80, targetPort: 80}, {name: b, port: 81}]}}}
- {do: merge, of: services, name: s, as: editor, body: {spec: {selector: {b: c}}}}
- {do: apply, of: services, name: s, as: one, body: {spec: {type: ClusterIP, selector: {app: b}, ports: [{name: a, protocol: TCP, port: 82, targetPort: 80}]}}}
- {do: apply, of: services, name: np, as: one, body: {spec: {type: NodePort, selector: {app: b}, ports: [{name: a, protocol: TCP, port: 82, targetPort: 80, nodePort: 30123}]}}}
- {do: apply, of: poddisruptionbudgets, name: p, as: one, body: {spec: {maxUnavailable: 1, selector: {matchLabels: {a: b}}}}}
- {do: apply, of: poddisruptionbudgets, name: p, as: one, body: {spec: {minAvailable: 1, selector: {matchLabels: {c: d}}}}}
- {do: apply, of: networkpolicies, name: p, as: one, body: {spec: {podSelector: {matchLabels: {a: b}}, policyTypes: [Ingress], ingress: [{ports: [{port: 80, protocol: TCP}, {port: 81, protocol: TCP}], from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]}}}
- {do: apply, of: networkpolicies, name: p, as: one, body: {spec: {podSelector: {matchLabels: {a: b}}, policyTypes: [Ingress], ingress: [{ports: [{port: 80}]}]}}}
- {do: apply, of: serviceaccounts, name: p, as: one, body: {metadata: {labels: {a: b}}}}
- {do: apply, of: roles, name: p, as: one, body: {rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}}
- {do: apply, of: roles, name: p, as: one, body: {rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]}}
- {do: apply, of: rolebindings, name: p, as: one, body: {roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: p}, subjects: [{kind: Group, name: g}, {kind: ServiceAccount, name: s, namespace: default}]}}
- {do: apply, of: rolebindings, name: p, as: one, body: {roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: q}}}
- {do: apply, of: daemonsets, name: p, as: one, body: {spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i:1}], hostNetwork: true, dnsPolicy: Default}}}}}
)"},
    {"Deletion", R"(
- {do: create, of: configmaps, name: a, body: {metadata: {finalizers: [x.io/one, x.io/two]}}}
- {do: delete, of: configmaps, name: a}
- {do: delete, of: configmaps, name: a}
- {do: merge, of: configmaps, name: a, body: {metadata: {finalizers: [x.io/one, x.io/two, x.io/three]}}}
- {do: merge, of: configmaps, name: a, body: {data: {still: here}}}
- {do: merge, of: configmaps, name: a, body: {metadata: {finalizers: [x.io/two]}}}
- {do: merge, of: configmaps, name: a, body: {metadata: {finalizers: null}}}
- {do: get, of: configmaps, name: a}
- {do: create, of: deployments, name: d, body: {spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}}
- {do: delete, of: deployments, name: d, options: {propagation: Foreground}}
- {do: get, of: deployments, name: d}
- {do: apply, of: deployments, name: d, as: one, body: {metadata: {labels: {a: b}}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}}
- {do: merge, of: deployments, name: d, body: {metadata: {finalizers: null}}}
- {do: get, of: deployments, name: d}
)"},
    {"Lists", R"(
- {do: create, of: configmaps, name: a, body: {metadata: {labels: {team: x, tier: gold}}}}
- {do: create, of: configmaps, name: b, body: {metadata: {labels: {team: x}}}}
- {do: create, of: configmaps, name: c, body: {metadata: {labels: {team: other}}}}
- {do: create, of: configmaps, name: d, body: {}}
- {do: list, of: configmaps, labels: team=x}
- {do: list, of: configmaps, labels: "team in (x,other),tier!=gold"}
- {do: list, of: configmaps, labels: "!team"}
- {do: list, of: configmaps, fields: metadata.name=c}
- {do: list, of: configmaps, labels: team, page: 1}
- {do: list, of: configmaps, labels: team=none}
)"},
    {"CustomResource", R"(
- {do: create, of: tenantcontrolplanes, name: t, as: user, body: {spec: {controlPlane: {deployment: {replicas: 2}, service: {serviceType: ClusterIP}}, kubernetes: {version: v1.36.3}, networkProfile: {port: 6443}, addons: {coreDNS: {}}}}}
- {do: merge, of: tenantcontrolplanes, name: t, as: user, body: {spec: {unknownField: 1}}}
- {do: merge, of: tenantcontrolplanes, name: t, as: user, body: {status: {kubernetesResources: {version: {version: v1}}}}}
- {do: merge, of: tenantcontrolplanes, name: t, as: user, body: {metadata: {finalizers: [finalizer.kamaji.clastix.io]}}}
- {do: apply, of: tenantcontrolplanes, name: t, as: ctrl, sub: status, body: {status: {unknownField: 1}}}
- {do: apply, of: tenantcontrolplanes, name: t, as: ctrl, body: {spec: {kubernetes: {unknownField: {a: b}}}}}
- do: apply
  of: tenantcontrolplanes
  name: t
  as: ctrl
  sub: status
  body:
    status:
      storage: {dataStoreName: d, driver: etcd, setup: {schema: s, user: u, checksum: c, lastUpdate: "2025-01-01T00:00:00Z"}}
      observedGeneration: 1
      conditions:
      - {type: Ready, status: "False", reason: A, message: m, lastTransitionTime: "2025-01-01T00:00:00Z", observedGeneration: 1}
      - {type: PodsReady, status: "False", reason: A, message: m, lastTransitionTime: "2025-01-01T00:00:00Z"}
- {do: apply, of: tenantcontrolplanes, name: t, as: ctrl, sub: status, body: {status: {observedGeneration: 1, conditions: [{type: Ready, status: "True", reason: A, message: m, lastTransitionTime: "2025-01-01T00:00:00Z"}]}}}
- {do: merge, of: tenantcontrolplanes, name: t, as: user, body: {spec: {controlPlane: {deployment: {replicas: 1}}}}}
- {do: merge, of: tenantcontrolplanes, name: t, as: user, body: {metadata: {labels: {a: b}}}}
- {do: delete, of: tenantcontrolplanes, name: t}
- {do: merge, of: tenantcontrolplanes, name: t, as: user, body: {metadata: {finalizers: null}}}
- {do: get, of: tenantcontrolplanes, name: t}
)"},
};

}  // namespace basalt::sim
