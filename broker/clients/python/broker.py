"""A broker of one's own: on free ports, in a folder of its own, gone at the end.

The binary is what TENPIN_BINARY says.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE_SECONDS = 60


class Broker:
    """Runs for as long as a `with` does."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="tenpin-clients-")
        self.process = subprocess.Popen(
            [
                os.environ["TENPIN_BINARY"], "serve",
                "--data-dir", os.path.join(self.folder, "data"),
                "--listen", "127.0.0.1:0",
                "--sqs-listen", "127.0.0.1:0",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stdout:
            found = re.search(r"SQS endpoint (http://\S+)", line)
            if found:
                self.endpoint = found.group(1)
                return self
        raise RuntimeError(f"the broker ended with status {self.process.wait()} and named no SQS endpoint")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.folder)
        if status != 0:
            raise RuntimeError(f"the broker ended with status {status}")


def environment(endpoint):
    """What a program needs to come here instead of to AWS: nothing but the endpoint."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def wait_until(what, condition):
    """Waits for a condition, and says what it was where it does not come."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"in vain: {what}")
        time.sleep(0.01)
