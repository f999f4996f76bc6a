"""The manifests against each other and the configuration; they were not applied here."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.deploy.files import (
    CLOSE_S,
    DEPLOY,
    document,
    documents,
    drain_s,
    ports,
)

KINDS = {
    "ServiceAccount": "v1",
    "Deployment": "apps/v1",
    "Service": "v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in document("kustomization.yaml")["resources"]:
        found += documents(name)
    return found


def one(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [only] = [row for row in manifests if row["kind"] == kind]
    return only


@pytest.fixture(scope="module")
def pod(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = one(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    [only] = pod["containers"]
    return dict(only)


def test_every_file_is_taken_in(manifests: list[dict[str, Any]]) -> None:
    files = {f"kubernetes/{path.name}" for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert files == set(document("kustomization.yaml")["resources"])
    assert {row["kind"]: row["apiVersion"] for row in manifests} == KINDS
    [generated] = document("kustomization.yaml")["configMapGenerator"]
    assert all((DEPLOY / name).is_file() for name in generated["files"])


def test_selectors_find_the_pods(manifests: list[dict[str, Any]]) -> None:
    deployment = one(manifests, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    budget, policy = one(manifests, "PodDisruptionBudget"), one(manifests, "NetworkPolicy")
    for selector in (
        deployment["selector"]["matchLabels"],
        budget["spec"]["selector"]["matchLabels"],
        policy["spec"]["podSelector"]["matchLabels"],
        *(row["spec"]["selector"] for row in manifests if row["kind"] == "Service"),
    ):
        assert selector
        assert selector.items() <= labels.items()


def test_the_longest_answer_outlives_the_pod_s_end(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    command, sleep_s = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    # SIGTERM comes after preStop, and both are within the grace period.
    needed_s = int(sleep_s) + drain_s("relay.yaml") + CLOSE_S
    assert pod["terminationGracePeriodSeconds"] >= needed_s


def test_ports_and_probes(manifests: list[dict[str, Any]], container: dict[str, Any]) -> None:
    listeners = ports("relay.yaml")
    named = {row["name"]: row["containerPort"] for row in container["ports"]}
    assert named == {"grpc": listeners["grpc"], "http": listeners["http"]}
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    live, ready = container["livenessProbe"], container["readinessProbe"]
    # A pod that is busy is taken out long before it is killed; a stuck worker is replaced first.
    assert live["periodSeconds"] * live["failureThreshold"] >= 30
    assert ready["periodSeconds"] * ready["failureThreshold"] <= 10
    for row in manifests:
        if row["kind"] == "Service":
            for port in row["spec"]["ports"]:
                assert port["port"] == named[port["targetPort"]]
    policy = one(manifests, "NetworkPolicy")["spec"]
    [ingress] = policy["ingress"]
    assert {row["port"] for row in ingress["ports"]} == set(named)
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    out = {port["port"] for row in policy["egress"] for port in row["ports"]}
    assert out == {53, 443, 5432, 6379}


def test_clients_can_balance_by_themselves(manifests: list[dict[str, Any]]) -> None:
    headless = [r for r in manifests if r["kind"] == "Service" and r["spec"].get("clusterIP")]
    [service] = headless
    assert service["spec"]["clusterIP"] == "None"
    assert [port["name"] for port in service["spec"]["ports"]] == ["grpc"]


def test_pods_may_do_little(
    manifests: list[dict[str, Any]], pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    user = (DEPLOY / "Dockerfile").read_text().split("\nUSER ")[1].split(":")[0]
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert one(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == one(manifests, "ServiceAccount")["metadata"]["name"]
    assert container["resources"]["limits"].keys() == {"memory"}


def test_secrets_are_referred_to(
    manifests: list[dict[str, Any]], pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert "env" not in container
    assert "Secret" not in {row["kind"] for row in manifests}
    volumes = {row["name"]: row for row in pod["volumes"]}
    mounts = {row["name"]: row for row in container["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    assert "secretName" in volumes["secrets"]["secret"]
    assert (mounts["secrets"]["mountPath"], mounts["secrets"]["readOnly"]) == ("/run/secrets", True)
    assert container["args"][2].startswith(mounts["config"]["mountPath"] + "/")


def test_one_at_a_time(manifests: list[dict[str, Any]]) -> None:
    deployment = one(manifests, "Deployment")["spec"]
    assert deployment["replicas"] >= 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    pod = deployment["template"]["spec"]
    assert deployment["progressDeadlineSeconds"] >= 2 * pod["terminationGracePeriodSeconds"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_them() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert {row["kind"] for row in made} == {*KINDS, "ConfigMap"}
    assert {row["metadata"]["namespace"] for row in made} == {"rtrelay"}
    [deployment] = [row for row in made if row["kind"] == "Deployment"]
    [config_map] = [row for row in made if row["kind"] == "ConfigMap"]
    volumes = {row["name"]: row for row in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == config_map["metadata"]["name"]
    assert config_map["data"]["relay.yaml"] == (DEPLOY / "relay.yaml").read_text("utf-8")
