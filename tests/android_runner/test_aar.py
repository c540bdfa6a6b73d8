"""The AAR and the Maven repository that scripts/aar makes of what `make app` has built."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "android_runner" / "android"
JAVA_11 = 55  # the major version of its class files
POM = "{http://maven.apache.org/POM/4.0.0}"

pytestmark = pytest.mark.skipif(
    not list(BUILD.glob("android/target/adaptivenet-android-*.jar")), reason="the Kotlin library is not built: make app"
)


def version() -> str:
    found = re.search(r"^version = (\S+)$", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def make(out: Path) -> Path:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "aar", out], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aar")
    assert make(folder) == folder / f"adaptivenet-{version()}.aar"
    return folder


def contents(archive: Path | bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def published(out: Path, artifact: str, suffix: str) -> Path:
    return out / "maven" / "io" / "adaptivenet" / artifact / version() / f"{artifact}-{version()}{suffix}"


def test_the_aar_has_what_an_app_takes_from_one_and_nothing_native(out: Path) -> None:
    files = contents(out / f"adaptivenet-{version()}.aar")
    assert set(files) == {
        "AndroidManifest.xml",
        "META-INF/com/android/build/gradle/aar-metadata.properties",
        "R.txt",
        "classes.jar",
        "proguard.txt",
    }
    manifest = ElementTree.fromstring(files["AndroidManifest.xml"])
    android = "{http://schemas.android.com/apk/res/android}"
    assert manifest.get("package") == "io.adaptivenet.android"
    (sdk,) = manifest.findall("uses-sdk")
    assert sdk.get(f"{android}minSdkVersion") == "26"
    assert files["R.txt"] == b""
    assert b"-keep class * implements io.adaptivenet.engine.EngineProvider" in files["proguard.txt"]
    classes = contents(files["classes.jar"])
    assert "io/adaptivenet/android/AndroidModels.class" in classes
    compiled = {name: content for name, content in classes.items() if name.endswith(".class")}
    assert {int.from_bytes(content[6:8], "big") for content in compiled.values()} == {JAVA_11}
    assert [name for name in compiled if not name.startswith("io/adaptivenet/android/")] == []


def test_the_repository_has_every_library_with_its_pom_and_sources(out: Path) -> None:
    artifacts = {path.name for path in (out / "maven" / "io" / "adaptivenet").iterdir()}
    assert {"adaptivenet", "adaptivenet-core", "adaptivenet-engine-onnxruntime", "adaptivenet-parent"} <= artifacts
    assert not [name for name in artifacts if "sample" in name]
    for path in (out / "maven").rglob("*.pom"):
        pom = ElementTree.parse(path).getroot()
        own = pom.findtext(f"{POM}version") or pom.findtext(f"{POM}parent/{POM}version")
        assert own == version() == path.parent.name
        assert pom.findtext(f"{POM}artifactId") == path.parent.parent.name
    aar = ElementTree.parse(published(out, "adaptivenet", ".pom")).getroot()
    assert aar.findtext(f"{POM}packaging") == "aar"
    needed = {each.findtext(f"{POM}artifactId") for each in aar.iter(f"{POM}dependency")}
    assert needed == {"adaptivenet-core", "kotlin-stdlib"}
    engine = contents(published(out, "adaptivenet-engine-onnxruntime", ".jar"))
    assert "META-INF/services/io.adaptivenet.engine.EngineProvider" in engine
    for artifact in artifacts - {"adaptivenet-parent"}:
        sources = contents(published(out, artifact, "-sources.jar"))
        assert [name for name in sources if name.endswith(".kt")]
    names = [name for path in (out / "maven").rglob("*.jar") for name in contents(path)]
    assert [name for name in names if name.endswith((".so", ".dylib", ".dll"))] == []
    for path in (out / "maven").rglob("*.sha1"):
        assert path.read_text() == hashlib.sha1(path.with_suffix("").read_bytes()).hexdigest()


def test_the_same_classes_give_the_same_bytes(out: Path, tmp_path: Path) -> None:
    make(tmp_path)
    found = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_versions_of_the_packages_are_one() -> None:
    pom = ElementTree.parse(BUILD / "pom.xml").getroot()
    assert pom.findtext(f"{POM}version") == version()
    gradle = (BUILD / "samples" / "stills" / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    assert set(re.findall(r'"io\.adaptivenet:[\w-]+:([^"]+)"', gradle)) == {version()}
    engine = pom.findtext(f"{POM}properties/{POM}onnxruntime.version")
    assert f"com.microsoft.onnxruntime:onnxruntime-android:{engine}" in gradle
    assert f'"org.jetbrains.kotlin.android") version "{pom.findtext(f"{POM}properties/{POM}kotlin.version")}"' in (
        BUILD / "samples" / "stills" / "build.gradle.kts"
    ).read_text(encoding="utf-8")
