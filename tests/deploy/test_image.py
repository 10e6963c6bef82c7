"""What goes into the image, without Docker.

Not the build of the static binary: that takes the minutes of a release build.
"""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from support import REPOSITORY, SLUICEGATE, complaints, template

ROOT = REPOSITORY / "deploy/image/root.sh"
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text("utf-8")


def make_root(binary, folder, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [ROOT, binary, folder], capture_output=True, text=True, env={**os.environ, **environment}
    )


class Image(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="image-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.certificates = self.folder / "certificates"
        self.certificates.write_text("some\n", "utf-8")

    def static(self) -> Path:
        """A static program that stands for the daemon."""
        binary = self.folder / "static"
        source = '#include <stdio.h>\nint main(void) { puts("here"); return 0; }\n'
        command = ["cc", "-static", "-x", "c", "-o", binary, "-"]
        subprocess.run(command, input=source, text=True, check=True)
        return binary

    def test_hadolint_and_shellcheck_find_nothing(self):
        self.assertEqual("", complaints("hadolint", REPOSITORY / "Dockerfile"))
        scripts = [ROOT, REPOSITORY / "deploy/emr/deadline.sh"]
        self.assertEqual("", complaints("shellcheck", *scripts))

    def test_a_static_program_runs_in_a_root_of_its_own(self):
        root = self.folder / "root"
        made = make_root(self.static(), root, CERTIFICATES=str(self.certificates))
        self.assertEqual((0, ""), (made.returncode, made.stderr))
        files = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
        expected = {"sluicegate", "etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt"}
        self.assertEqual(expected, files)
        command = [root / "sluicegate"]
        if os.geteuid() == 0:
            command = ["chroot", "--userspec=65532:65532", root, "/sluicegate"]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((0, "here\n"), (done.returncode, done.stdout))

    def test_what_would_not_start_is_refused_with_the_way_out(self):
        text = self.folder / "text"
        text.write_text("no program", "utf-8")
        for binary, certificates, folder, said in [
            (SLUICEGATE, self.certificates, "root", "is not static: build it with RUSTFLAGS"),
            (text, self.certificates, "root", "is no program for Linux"),
            (self.static(), self.folder / "none", "root", "install ca-certificates"),
            (self.static(), self.certificates, ".", "name a folder that is to be made"),
        ]:
            made = make_root(binary, self.folder / folder, CERTIFICATES=str(certificates))
            self.assertEqual(1, made.returncode)
            self.assertIn(said, made.stderr)

    def test_the_build_gets_every_file_that_the_binary_holds(self):
        kept = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
        kept = [REPOSITORY / line[1:] for line in kept if line.startswith("!")]
        for place in kept:
            self.assertTrue(place.exists(), place)
        held = []
        for source in (REPOSITORY / "src").rglob("*.rs"):
            for path in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text("utf-8")):
                held.append((source.parent / path).resolve())
        self.assertTrue(held)
        for file in held:
            self.assertTrue(any(file.is_relative_to(place) for place in kept), file)

    def test_image_and_template_agree(self):
        definition = template()["Resources"]["TaskDefinition"]["Properties"]
        (container,) = [
            one for one in definition["ContainerDefinitions"] if one["Name"] == "sluicegate"
        ]
        self.assertIn(f"USER {container['User']}\n", DOCKERFILE)
        check = ", ".join(f'"{word}"' for word in container["HealthCheck"]["Command"][1:])
        self.assertIn(f"CMD [{check}]\n", DOCKERFILE)
        command = ", ".join(f'"{word}"' for word in container["Command"])
        self.assertIn(f"CMD [{command}]\n", DOCKERFILE)
        mount, copied = container["MountPoints"][0], definition["ContainerDefinitions"][0]["Command"]
        self.assertIn(f"ENV SLUICEGATE_CONFIG={copied[-1]}\n", DOCKERFILE)
        self.assertTrue(copied[-1].startswith(mount["ContainerPath"] + "/"))
        version = re.search(r'^version = "(.+)"$', (REPOSITORY / "Cargo.toml").read_text("utf-8"), re.M)
        self.assertIn(f"ARG VERSION={version[1]}\n", DOCKERFILE)


if __name__ == "__main__":
    unittest.main()
