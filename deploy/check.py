"""Checks deploy/kubernetes by the published schemas, and what they do not say: that names meet, that the pods comply with
the "restricted" Pod Security Standard, and that a node gets the time that it takes to drain."""

import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml

# The oldest version that has all fields used here, and the newest whose schema is to be had.
VERSIONS = ["1.30", "1.37"]
FOLDER = Path("deploy/kubernetes")
WORKLOADS = ["Deployment", "StatefulSet"]

problems = []


def expect(is_good, where, problem):
    if not is_good:
        problems.append(f"{where}: {problem}")


def where(document):
    return f"{document['kind']} {document['metadata']['name']}"


def load():
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    listed = set(kustomization["resources"]) | {"etcd.yaml", "kustomization.yaml"}
    files = {path.name for path in FOLDER.glob("*.yaml")}
    expect(listed == files, "kustomization.yaml", f"lists other files than there are: {sorted(listed ^ files)}")
    paths = sorted(FOLDER / name for name in files - {"kustomization.yaml"})
    return [document for path in paths for document in yaml.safe_load_all(path.read_text())]


def check_schema(document):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{where(document)}: {version}: {'.'.join(map(str, error.path))}: {error.message}")


def labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def selected(selector, workloads):
    wanted = selector.get("matchLabels", selector).items()
    return [workload for workload in workloads if wanted <= labels(workload).items()]


def ports(workload):
    return {port["name"] for port in container(workload)["ports"]}


def container(workload):
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return only


def check_selectors(documents, workloads):
    for document in documents:
        spec, kind = document.get("spec", {}), document["kind"]
        selector = spec.get("podSelector" if kind == "NetworkPolicy" else "selector")
        if selector is None:
            continue
        chosen = selected(selector, workloads)
        expect(chosen, where(document), "selects no pod")
        if kind in WORKLOADS:
            expect(chosen == [document], where(document), "selects pods that are not its own alone")
        used = {port["targetPort"] for port in spec.get("ports", [])}
        used |= {port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]}
        for workload in chosen:
            expect(used <= ports(workload), where(document), f"names ports that {where(workload)} has not")


def check_references(workload, names):
    spec, main = workload["spec"], container(workload)
    if "serviceName" in spec:
        expect(("Service", spec["serviceName"]) in names, where(workload), "its Service is missing")
    for source in main.get("envFrom", []):
        if "configMapRef" in source:
            expect(("ConfigMap", source["configMapRef"]["name"]) in names, where(workload), "its ConfigMap is missing")
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
        action = main[probe].get("httpGet") or main[probe]["tcpSocket"]
        expect(action["port"] in ports(workload), where(workload), f"{probe} asks a port that it has not")
    for constraint in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
        expect(selected(constraint["labelSelector"], [workload]), where(workload), "it is spread by other pods' labels")


# https://kubernetes.io/docs/concepts/security/pod-security-standards/, "restricted", and somewhat more. Kubernetes takes a
# workload that breaks it, and refuses its pods one by one, which is easily overlooked.
def check_restricted(workload):
    pod, main = workload["spec"]["template"]["spec"], container(workload)
    inherited, own = pod["securityContext"], main["securityContext"]
    host = {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & pod.keys()
    expect(not host, where(workload), f"has {host}, which this check does not know")
    expect(all("secret" in volume for volume in pod.get("volumes", [])), where(workload), "mounts more than Secrets")
    mounted = {mount["name"] for mount in main.get("volumeMounts", [])}
    offered = pod.get("volumes", []) + [claim["metadata"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
    expect(mounted == {volume["name"] for volume in offered}, where(workload), "mounts other volumes than it has")
    expect("hostPort" not in str(main), where(workload), "takes a port of the host")
    expect(inherited["runAsNonRoot"] and inherited["runAsUser"] > 0, where(workload), "may run as root")
    expect(inherited["seccompProfile"]["type"] == "RuntimeDefault", where(workload), "has no seccomp profile")
    expect(own["allowPrivilegeEscalation"] is False, where(workload), "may get more privileges")
    expect(own["capabilities"] == {"drop": ["ALL"]}, where(workload), "keeps capabilities")
    expect(own["readOnlyRootFilesystem"] is True, where(workload), "may write to its image")
    expect("memory" in main["resources"]["limits"], where(workload), "has no limit of memory")


def limit_seconds(name):
    source = Path("src/limits.rs").read_text()
    unit, value = re.search(rf"pub const {name}: Duration = Duration::from_(secs|millis)\((\d+)\)", source).groups()
    return int(value) / {"secs": 1, "millis": 1000}[unit]


# A second more than the limits say: src/node.rs gives it to connections to end.
def check_stop_time(workloads):
    drain = sum(map(limit_seconds, ["HAND_OVER_TIMEOUT", "LAME_DUCK", "DRAIN"])) + 1
    for workload in selected({"app.kubernetes.io/name": "primacy"}, workloads):
        pod = workload["spec"]["template"]["spec"]
        needed = drain + container(workload)["lifecycle"]["preStop"]["sleep"]["seconds"]
        expect(pod["terminationGracePeriodSeconds"] > needed, where(workload), f"it is killed before {needed} s")
    unit = Path("deploy/systemd/primacy.service").read_text()
    stop = int(re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE).group(1))
    expect(stop > drain, "primacy.service", f"it is killed before {drain} s")


def main():
    documents = load()
    workloads = [document for document in documents if document["kind"] in WORKLOADS]
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    expect(len(names) == len(documents), FOLDER, "a name is given twice")
    for document in documents:
        check_schema(document)
    check_selectors(documents, workloads)
    for workload in workloads:
        check_references(workload, names)
        check_restricted(workload)
    check_stop_time(workloads)
    for problem in problems:
        print(f"   FAILED  {problem}")
    print(f"   {len(documents)} manifests of Kubernetes {' and '.join(VERSIONS)}, {len(problems)} problems")
    sys.exit(bool(problems))


main()
