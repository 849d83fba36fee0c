"""Containers' files: no field is misspelt, and what they say twice is the same.

What is said to exist does: options, locks, files.  Nothing is built or started here.
"""

import argparse
import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from segue.service import command as serve_command

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "deploy" / "kuberay.yaml"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_SCHEMA = ("--builtin-schema", "vendor.compose-spec")
NONE_HERE = "no check-jsonschema and kubernetes-validate here: make test-deploy"


def of_strings(schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": schema or {"type": "string"}}


def fields(required: tuple[str, ...] = (), **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


COUNT = {"type": "integer", "minimum": 0}
GROUP = {"rayStartParams": of_strings(), "template": {"type": "object"}}
RAY_CLUSTER = fields(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=fields(("name",), name={"type": "string"}, labels=of_strings()),
    spec=fields(
        ("headGroupSpec",),
        rayVersion={"type": "string"},
        enableInTreeAutoscaling={"type": "boolean"},
        autoscalerOptions=fields(
            idleTimeoutSeconds=COUNT,
            upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        ),
        headGroupSpec=fields(("template",), serviceType={"type": "string"}, **GROUP),
        workerGroupSpecs={
            "type": "array",
            "items": fields(
                ("groupName", "minReplicas", "maxReplicas", "template"),
                groupName={"type": "string"},
                replicas=COUNT,
                minReplicas=COUNT,
                maxReplicas=COUNT,
                numOfHosts=COUNT,
                **GROUP,
            ),
        },
    ),
)
"""What KubeRay's reference of `ray.io/v1` has of a `RayCluster`, as far as it is used here.

https://ray-project.github.io/kuberay/reference/api/; what is in a template is Kubernetes' own.
"""


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(KUBERAY.read_text(encoding="utf-8")))


def ray_cluster() -> dict[str, Any]:
    return documents()[0]


def templates(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    spec = cluster["spec"]
    return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def check_kubernetes(document: dict[str, Any]) -> None:
    """Check a document, a `RayCluster` in its own fields and in its templates."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason=NONE_HERE)
    version = kubernetes.latest_version()
    if document["kind"] != "RayCluster":
        kubernetes.validate(document, version, strict=True)
        return
    pytest.importorskip("jsonschema", reason=NONE_HERE).validate(document, RAY_CLUSTER)
    for template in templates(document):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"}}
        kubernetes.validate({**pod, "template": template}, version, strict=True)


@pytest.mark.parametrize("document", documents(), ids=lambda each: each["kind"])
def test_the_manifest_has_the_fields_of_kubernetes_and_kuberay(document):
    check_kubernetes(document)


FREE = {"labels", "matchLabels", "rayStartParams", "requests", "limits"}
"""What has keys of any name."""


def keys(value: Any, path: tuple = ()) -> Any:
    """The paths of all keys in a document whose names a schema knows."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        of_service = path[-1:] == ("selector",) and key != "matchLabels"
        if isinstance(key, str) and not of_service and not FREE & {*path}:
            yield (*path, key)
        if isinstance(each, dict | list):
            yield from keys(each, (*path, key))


@pytest.mark.parametrize("document", documents(), ids=lambda each: each["kind"])
def test_a_misspelt_field_is_found_wherever_it_is(document):
    kubernetes = pytest.importorskip("kubernetes_validate", reason=NONE_HERE)
    jsonschema = pytest.importorskip("jsonschema", reason=NONE_HERE)
    found = (kubernetes.ValidationError, jsonschema.ValidationError)
    for path in keys(document):
        if path[0] in ("apiVersion", "kind"):
            continue  # by them it is known what the document is
        misspelt = copy.deepcopy(document)
        at: Any = misspelt
        for key in path[:-1]:
            at = at[key]
        at[f"{path[-1]}x"] = at.pop(path[-1])
        try:
            check_kubernetes(misspelt)
        except found:
            continue
        pytest.fail(f"{path} may be misspelt")


def check_compose(path: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("check_jsonschema", reason=NONE_HERE)
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *COMPOSE_SCHEMA, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_compose_has_the_fields_of_its_schema(tmp_path):
    done = check_compose(ROOT / "compose.yaml")
    assert done.returncode == 0, done.stdout
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    for field in ("profiles", "stop_grace_period", "reservations", "driver", "target"):
        misspelt = tmp_path / "compose.yaml"
        misspelt.write_text(text.replace(f"{field}:", f"{field}x:"), encoding="utf-8")
        assert check_compose(misspelt).returncode == 1, field


def test_compose_s_targets_and_volumes_are_the_dockerfile_s():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    (volumes,) = re.findall(r"^VOLUME (.*)", DOCKERFILE, re.MULTILINE)
    for service in compose["services"].values():
        assert service["build"]["target"] in stages
        assert [each.partition(":")[2] for each in service["volumes"]] == json.loads(volumes)
    profiles = [each["profiles"] for each in compose["services"].values()]
    assert profiles == [["cpu"], ["gpu"]]


# --- What is said twice ---------------------------------------------------------------------------


def test_the_image_is_not_run_by_root_and_installs_by_hashes_alone():
    *_, last = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    assert "\nUSER segue\n" in last
    for line in re.findall(r"pip install [^\n&]*", DOCKERFILE):
        assert "--no-deps" in line
        assert "--require-hashes" in line or "/dist/*.whl" in line


def test_what_the_dockerfile_copies_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source


def test_cuda_s_mlx_is_installed_last(tmp_path):
    """What `sed` cuts out of the lock is one requirement, with its hashes."""
    (script,) = re.findall(r"sed -n ('[^']*') requirements/cuda.lock", DOCKERFILE)
    command = ["sed", "-n", *shlex.split(script), str(ROOT / "requirements" / "cuda.lock")]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    name, *hashes = found.replace("\\\n", "").split(" --hash=")
    assert name.startswith("mlx-cuda-13==")
    assert len(hashes) > 1
    assert found.count("==") == 2  # the version, and the system's name
    assert not found.rstrip().endswith("\\")


def serve_options(command: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve_command.add_parser(parser.add_subparsers())
    return parser.parse_args(command)


def test_what_containers_run_are_options_of_segue_serve():
    (command,) = re.findall(r"^CMD (\[.*\])", DOCKERFILE, re.MULTILINE)
    assert serve_options(json.loads(command)).host == "0.0.0.0"
    front = next(each for each in documents() if each["kind"] == "Deployment")
    (container,) = front["spec"]["template"]["spec"]["containers"]
    (line,) = re.findall(r"exec segue (serve.*)", container["args"][0])
    options = serve_options(shlex.split(line))
    (group,) = ray_cluster()["spec"]["workerGroupSpecs"]
    assert options.workers == f"{group['minReplicas']}-{group['maxReplicas']}"
    name = ray_cluster()["metadata"]["name"]
    assert f"{name}-head-svc:6379" in container["args"][0]


def test_probes_ask_what_is_right_for_them():
    """Kubernetes kills what is not live, and sends nothing to what is not ready."""
    front = next(each for each in documents() if each["kind"] == "Deployment")
    (container,) = front["spec"]["template"]["spec"]["containers"]
    paths = {
        name: container[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/health", "liveness": "/health", "readiness": "/ready"}
    (port,) = container["ports"]
    probe = (ROOT / "deploy" / "health.py").read_text(encoding="utf-8")
    assert f'URL = "http://127.0.0.1:{port["containerPort"]}/ready"' in probe
    (check,) = re.findall(r"^HEALTHCHECK .*\n    CMD (\[.*\])", DOCKERFILE, re.MULTILINE)
    (copied,) = re.findall(r"^COPY deploy/health.py (\S+)", DOCKERFILE, re.MULTILINE)
    assert json.loads(check) == ["python", f"{copied}health.py"]


def test_the_manifest_s_ray_is_the_lock_s():
    lock = (ROOT / "requirements" / "cluster.lock").read_text(encoding="utf-8")
    (version,) = re.findall(r"^ray==(\S+)", lock, re.MULTILINE)
    assert ray_cluster()["spec"]["rayVersion"] == version


def test_services_find_their_pods():
    by_kind = {each["kind"]: each for each in documents()}
    pod = by_kind["Deployment"]["spec"]["template"]
    assert by_kind["Service"]["spec"]["selector"] == pod["metadata"]["labels"]
    claims = [v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["spec"]["volumes"]]
    assert by_kind["PersistentVolumeClaim"]["metadata"]["name"] in claims
    assert by_kind["Deployment"]["spec"]["strategy"]["type"] == "Recreate"
