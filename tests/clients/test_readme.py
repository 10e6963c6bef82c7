"""The examples of local/README.md, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from support import PATIENCE_SECS, REPOSITORY, Case, environment, server


class Examples(Case):
    def test_they_work_as_written(self):
        readme = (REPOSITORY / "local/README.md").read_text()
        bash, python = (self.block(readme, language) for language in ["bash", "python"])
        shell = self.run_text(["bash", "-euo", "pipefail"], bash)
        self.assertIn(" in/hello.txt\n", shell)
        self.assertRegex(shell, r"greet\t(PENDING|RUNNING|COMPLETED)\n")
        self.assertIn('"key":"in/a+b.txt"', self.run_text([sys.executable, "-"], python))

    def block(self, readme: str, language: str) -> str:
        found = re.findall(rf"^```{language}\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
        self.assertEqual(len(found), 1, language)
        text = found[0].replace("http://127.0.0.1:4510", server().endpoint)
        return text.replace(".venv/bin", str(Path(sys.executable).parent))

    def run_text(self, program: list[str], text: str) -> str:
        done = subprocess.run(
            program, input=text, capture_output=True, text=True, cwd=REPOSITORY,
            env=environment(), timeout=PATIENCE_SECS,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout
