"""The manifests for deployment are what their readers take, and fit together."""

import json
import pathlib
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import tomllib
import yaml

from conftest import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = "1.34"
SPINKUBE = json.loads((ROOT / "tests/deploy/spinkube.schema.json").read_text())
SETS = {
    "shim": ["spinkube/shared.yaml", "spinkube/shim.yaml"],
    "container": ["spinkube/shared.yaml", "spinkube/container.yaml"],
    "deployment": ["spinkube/shared.yaml", "kubernetes/deployment.yaml"],
}


def documents(*names):
    return [document for name in names for document in yaml.safe_load_all((DEPLOY / name).read_text())]


def walk(value):
    yield value
    for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(below)


def check(document):
    if document["apiVersion"].startswith("core.spinkube.dev/"):
        jsonschema.validate(document, SPINKUBE)
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", SETS)
def test_each_document_is_valid_and_all_that_is_named_is_there(name):
    all_of_it = documents(*SETS[name])
    for document in all_of_it:
        check(document)
    named = {(document["kind"], document["metadata"]["name"]): document for document in all_of_it}
    assert len(named) == len(all_of_it)
    assert {document["metadata"].get("namespace", "keystorm") for document in all_of_it} == {"keystorm"}
    secrets = {found: document.get("stringData", {}) for (kind, found), document in named.items() if kind == "Secret"}
    for value in walk(all_of_it):
        if isinstance(value, dict):
            if reference := value.get("secretKeyRef"):
                assert reference["key"] in secrets[reference["name"]]
            if mounted := value.get("secretName"):
                assert all(item["key"] in secrets[mounted] for item in value.get("items", []))
    workloads = [document for document in all_of_it if document["kind"] in ("SpinApp", "Deployment")]
    [workload] = workloads
    assert workload["metadata"]["name"] == "keystorm"
    if workload["kind"] == "SpinApp":
        executor = named["SpinAppExecutor", workload["spec"]["executor"]]["spec"]["deploymentConfig"]
        if runtime_class := executor.get("runtimeClassName"):
            assert "us-" in named["RuntimeClass", runtime_class]["scheduling"]["nodeSelector"]["topology.kubernetes.io/region"]
        config = secrets[workload["spec"]["runtimeConfig"]["loadFromSecret"]]
        variables = {variable["name"] for variable in workload["spec"]["variables"]}
    else:
        config = secrets["keystorm-runtime-config"]
        container = workload["spec"]["template"]["spec"]["containers"][0]
        variables = {variable["name"].removeprefix("SPIN_VARIABLE_").lower() for variable in container["env"]}
    config = tomllib.loads(config["runtime-config.toml"])
    assert config["sqlite_database"]["default"]["type"] == "libsql" and config["key_value_store"]["default"]["type"] == "redis"
    known = tomllib.loads((ROOT / "spin.toml").read_text())["variables"]
    assert variables <= known.keys() and {"auth_key", "home_access_key", "encryption_key"} <= variables


def test_a_mistake_is_found():
    # What validates has to be able to fail.
    [app] = [document for document in documents("spinkube/shim.yaml") if document["kind"] == "SpinApp"]
    for wrong in ({"affinity": {}}, {"replicas": 2}, {"variables": [{"name": "x"}]}):
        with pytest.raises(jsonschema.ValidationError):
            check({**app, "spec": {**app["spec"], **wrong}})
    [scaler] = [document for document in documents("spinkube/shared.yaml") if document["kind"] == "HorizontalPodAutoscaler"]
    with pytest.raises(kubernetes_validate.ValidationError):
        check({**scaler, "spec": {**scaler["spec"], "maximumReplicas": 3}})


def test_compose_mounts_what_there_is():
    folder = DEPLOY / "compose"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    built = tomllib.loads((ROOT / "spin.toml").read_text())["component"]
    sources = {component["source"] for component in built.values()}
    mounted = {pathlib.PurePosixPath(volume.split(":")[1]).relative_to("/app").as_posix() for volume in compose["services"]["keystorm"]["volumes"]}
    assert sources | {"spin.toml", "runtime-config.toml"} == mounted
    for volume in compose["services"]["keystorm"]["volumes"]:
        assert (folder / volume.split(":")[0]).exists(), volume
    config = tomllib.loads((folder / "runtime-config.toml").read_text())
    urls = config["sqlite_database"]["default"]["url"], config["key_value_store"]["default"]["url"]
    for url in urls:
        assert url.split("//")[1].split(":")[0] in compose["services"]
    assert compose["networks"]["stores"]["internal"] and "ports" not in compose["services"]["redis"] and "ports" not in compose["services"]["sqld"]
    known = tomllib.loads((ROOT / "spin.toml").read_text())["variables"]
    lines = (folder / "keystorm.env.example").read_text().split()
    assert {line.split("=")[0].removeprefix("SPIN_VARIABLE_").lower() for line in lines} <= known.keys()


def test_the_manifest_for_wasi_02_is_that_of_spin_toml():
    written = subprocess.run([ROOT / "scripts/wasi02-manifest.sh"], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "spin-wasi02.toml").read_text() == written, "run scripts/wasi02-manifest.sh > spin-wasi02.toml"
    older, newer = tomllib.loads(written), tomllib.loads((ROOT / "spin.toml").read_text())
    assert older["trigger"] == newer["trigger"]
    assert older["component"]["keystorm"]["variables"] == newer["component"]["keystorm"]["variables"]
    # Spin up to 4.0 refuses every call where one of the allowed hosts is empty.
    defaults = {name: variable.get("default") for name, variable in older["variables"].items()}
    assert all(host if "{{" not in host else defaults[host.strip("{} ")] for host in older["component"]["keystorm"]["allowed_outbound_hosts"])
    assert set(older["component"]["ui"]) == {"source"}
