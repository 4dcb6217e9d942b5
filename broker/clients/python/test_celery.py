"""Celery with its SQS transport: a worker of its own process, real tasks, retries and a countdown.

    TENPIN_BINARY=target/release/tenpin python -m unittest test_celery
"""

import os
import signal
import subprocess
import sys
import tempfile
import unittest

from broker import Broker, environment, wait_until

TASKS = 20


class CeleryTest(unittest.TestCase):
    def test_a_worker_does_all_tasks(self):
        broker = self.enterContext(Broker())
        folder = self.enterContext(tempfile.TemporaryDirectory())
        os.environ.update(environment(broker.endpoint), PINS_FOLDER=folder)
        import celery_tasks

        for pins in range(TASKS):
            celery_tasks.knock_down.delay(pins)
        celery_tasks.knock_down_at_the_second_try.delay("spare")
        celery_tasks.knock_down.apply_async((10_000,), countdown=1)
        import boto3
        sqs = boto3.client("sqs")
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def is_empty():
            url = sqs.get_queue_url(QueueName="celery")["QueueUrl"]
            counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            return counts == dict.fromkeys(names, "0")

        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2", "--loglevel",
             "WARNING", "--without-gossip", "--without-mingle"],
            env={**os.environ, "C_FORCE_ROOT": "1"}, cwd=os.path.dirname(os.path.abspath(__file__)))
        try:
            wanted = {f"done-{pins}" for pins in [*range(TASKS), 10_000]} | {"done-spare"}
            wait_until("all tasks are done", lambda: wanted <= set(os.listdir(folder)))
            self.assertEqual(os.path.getsize(os.path.join(folder, "done-7")), 7)
            wait_until("what was done is deleted", is_empty)
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


if __name__ == "__main__":
    unittest.main()
