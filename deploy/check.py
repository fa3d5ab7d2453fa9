"""Checks deploy/kubernetes by the published schemas, and what they do not say: that names meet, that the pods comply with
the "restricted" Pod Security Standard, and that a node gets the time that it takes to drain. Then the same with TLS."""

import re
import shutil
import subprocess
import sys
import tempfile
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
    if document["apiVersion"] == "cert-manager.io/v1":
        return
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
    known = set()
    for variable in main.get("env", []):
        unknown = set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) - known
        expect(not unknown, where(workload), f"{variable['name']} refers to {unknown}, which no variable before it is")
        known.add(variable["name"])
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


# What kustomization.yaml makes with `tls` taken in; nothing without a program that makes it.
def load_with_tls():
    if not shutil.which("kubectl"):
        print("   left out: no kubectl, for the manifests with TLS")
        return []
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
        kustomization = Path(folder, "kustomization.yaml")
        kustomization.write_text(re.sub(r"^#(components:|  - tls)$", r"\1", kustomization.read_text(), flags=re.MULTILINE))
        made = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(made))


# The schemas of cert-manager are not to be had here: these are the fields that are used, by hand from
# https://cert-manager.io/docs/reference/api-docs/, each with what it may hold.
CERTIFICATE = {
    "secretName": r"[a-z-]+",
    "commonName": r".{1,64}",
    "isCA": r"True",
    "duration": r"\d+h",
    "renewBefore": r"\d+h",
    "privateKey": r"\{'algorithm': 'ECDSA', (?:'rotationPolicy': 'Always', )?'size': 256\}",
    "usages": r"\[(?:'(?:digital signature|server auth|client auth|cert sign|crl sign)'(?:, )?)+\]",
    "dnsNames": r"\[.+\]",
    "ipAddresses": r"\[.+\]",
    "issuerRef": r"\{'name': '[a-z-]+'\}",
}


def check_certificate(certificate, issuers):
    spec = certificate["spec"]
    for field, value in spec.items():
        is_good = re.fullmatch(CERTIFICATE.get(field, ""), str(value))
        expect(is_good, where(certificate), f"{field} is unknown, or may not be {value}")
    expect({"secretName", "issuerRef"} <= spec.keys(), where(certificate), "has no Secret or no Issuer")
    expect(spec["issuerRef"]["name"] in issuers, where(certificate), "its Issuer is missing")
    hours = [int(spec.get(field, "0h")[:-1]) for field in ["renewBefore", "duration"]]
    expect(hours[0] < hours[1], where(certificate), "is renewed before it is made")


def check_issuers(issuers, certificates):
    authorities = {certificate["spec"]["secretName"] for certificate in certificates if "isCA" in certificate["spec"]}
    for name, issuer in issuers.items():
        is_signed_by_itself = issuer["spec"] == {"selfSigned": {}}
        is_authority = issuer["spec"] in [{"ca": {"secretName": secret}} for secret in authorities]
        expect(is_signed_by_itself or is_authority, name, "is neither self-signed nor a CA that is made here")


def names_of_pods(workload):
    start = workload["spec"].get("ordinals", {}).get("start", 0)
    return [f"{workload['metadata']['name']}-{start + i}" for i in range(workload["spec"]["replicas"])]


# As verifiers do: a star stands for one label, the first.
def covers(names, host):
    return host in names or "*." + host.partition(".")[2] in names


def check_peers(workload, certificate, documents):
    spec, main = workload["spec"], container(workload)
    expect(workload["kind"] == "StatefulSet", where(workload), "its pods have no names that a certificate could hold")
    for service in documents:
        if (service["kind"], service["metadata"]["name"]) == ("Service", spec["serviceName"]):
            expect(service["spec"].get("clusterIP") == "None", where(service), "does not resolve to pods")
            expect(service["spec"].get("publishNotReadyAddresses"), where(service), "hides pods from their peers")
            expect(selected(service["spec"]["selector"], [workload]), where(workload), "is not in its Service")
    listens = {port["containerPort"] for port in main["ports"]}
    values = {variable["name"]: variable.get("value", "") for variable in main["env"]}
    for pod in names_of_pods(workload):
        for name in ["PRIMACY_ADVERTISE_GRPC", "PRIMACY_ADVERTISE_HTTP"]:
            host, _, port = values[name].replace("$(PRIMACY_NAME)", pod).rpartition(":")
            is_name = host == f"{pod}.{spec['serviceName']}.{workload['metadata']['namespace']}.svc"
            expect(is_name, where(workload), f"{name} is {host}, by which Kubernetes knows no pod")
            expect(covers(certificate["spec"]["dnsNames"], host), where(certificate), f"does not cover {host}")
            expect(int(port) in listens, where(workload), f"{name} names a port that it has not")


# A path in a variable leads into a Secret that is there, and to a file of it.
def check_paths(workload, settings, certificate):
    pod, main = workload["spec"]["template"]["spec"], container(workload)
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"]}
    files = {
        f"{mount['mountPath']}/{file}"
        for mount in main["volumeMounts"]
        if secrets[mount["name"]] == certificate["spec"]["secretName"] and "subPath" not in mount
        for file in ["tls.crt", "tls.key", "ca.crt"]
    }
    told = {value for name, value in settings.items() if name.startswith("PRIMACY_TLS_")}
    expect(told == files, where(workload), f"is told {sorted(told)}, and has {sorted(files)}")
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
        expect(main[probe]["httpGet"].get("scheme") == "HTTPS", where(workload), f"{probe} asks in clear text")


def check_tls(documents):
    issuers = {document["metadata"]["name"]: document for document in documents if document["kind"] == "Issuer"}
    certificates = [document for document in documents if document["kind"] == "Certificate"]
    for certificate in certificates:
        check_certificate(certificate, issuers)
    check_issuers(issuers, certificates)
    (certificate,) = [certificate for certificate in certificates if "isCA" not in certificate["spec"]]
    both = {"server auth", "client auth", "digital signature"} <= set(certificate["spec"]["usages"])
    expect(both, where(certificate), "does not serve both ends of a connection")
    # `primacy health` and `primacy status` in a pod.
    local = {"localhost"} <= set(certificate["spec"]["dnsNames"]) and certificate["spec"]["ipAddresses"] == ["127.0.0.1"]
    expect(local, where(certificate), "does not name the pod itself")
    (settings,) = [document["data"] for document in documents if document["kind"] == "ConfigMap"]
    for document in documents:
        if document["kind"] == "Service":
            name, namespace = document["metadata"]["name"], document["metadata"]["namespace"]
            for host in [name, f"{name}.{namespace}", f"{name}.{namespace}.svc"]:
                expect(host in certificate["spec"]["dnsNames"], where(certificate), f"does not name {host}")
            for port in document["spec"]["ports"]:
                expect(port["appProtocol"] == "https", where(document), f"says that {port['name']} is clear text")
        if document["kind"] in WORKLOADS:
            check_peers(document, certificate, documents)
            check_paths(document, settings, certificate)


def check(documents):
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


def main():
    documents, with_tls = load(), load_with_tls()
    check(documents)
    if with_tls:
        check(with_tls)
        check_tls(with_tls)
    for problem in problems:
        print(f"   FAILED  {problem}")
    counted = f"{len(documents)} manifests, and with TLS {len(with_tls)}"
    print(f"   {counted}, of Kubernetes {' and '.join(VERSIONS)}, {len(problems)} problems")
    sys.exit(bool(problems))


main()
