"""The command line program `llm` against a running demo; `tests/clients/run` installs it and starts the demo.

    python tests/clients/llm_client.py BASE_URL KEY
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile


def main():
    base_url, key = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        model = {
            "model_id": "qwen3-max",
            "model_name": "qwen3-max",
            "api_base": base_url,
            "api_key_name": "qwen-bridge",
            "supports_tools": True,
            "supports_schema": True,
        }
        # JSON is YAML.
        pathlib.Path(folder, "extra-openai-models.yaml").write_text(json.dumps([model]))
        pathlib.Path(folder, "keys.json").write_text(json.dumps({"qwen-bridge": key}))

        def llm(*arguments):
            program = [sys.executable, "-m", "llm", *arguments]
            environment = {**os.environ, "LLM_USER_PATH": folder}
            run = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=100, check=False)
            assert run.returncode == 0, run.stderr
            return run.stdout.strip()

        assert llm("-m", "qwen3-max", "echo: grüße 🙂") == "grüße 🙂"
        assert llm("-m", "qwen3-max", "--no-stream", "echo: one two") == "one two"
        told = json.loads(llm("-m", "qwen3-max", "--schema", "city, degrees int", "How is the weather in Oslo?"))
        assert isinstance(told["degrees"], int), told
    print("good")


main()
