"""The AWS command line. Its version 1 passes over AWS_ENDPOINT_URL for SQS, so that it is told by a flag.

    TENPIN_BINARY=target/release/tenpin python -m unittest test_cli
"""

import json
import os
import subprocess
import sys
import unittest

from broker import Broker, environment

# Beside the interpreter that runs this, so that a virtual environment need not be active.
AWS = os.path.join(os.path.dirname(sys.executable), "aws")


class CommandLineTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = cls.enterClassContext(Broker())

    def run_aws(self, *arguments):
        return subprocess.run(
            [sys.executable, AWS, "sqs", *arguments, "--output", "json",
             "--endpoint-url", self.broker.endpoint],
            env={**os.environ, **environment(self.broker.endpoint)}, capture_output=True, text=True, timeout=120)

    def aws(self, *arguments):
        result = self.run_aws(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout) if result.stdout.strip() else None

    def test_a_first_walk(self):
        url = self.aws("create-queue", "--queue-name", "orders", "--attributes", "VisibilityTimeout=60",
                       "--tags", "team=pins")["QueueUrl"]
        self.assertEqual(self.aws("get-queue-url", "--queue-name", "orders")["QueueUrl"], url)
        self.assertEqual(self.aws("list-queues")["QueueUrls"], [url])
        self.aws("send-message", "--queue-url", url, "--message-body", "a first order", "--message-attributes",
                 '{"kind":{"DataType":"String","StringValue":"test"}}')
        [message] = self.aws("receive-message", "--queue-url", url, "--wait-time-seconds", "20",
                             "--attribute-names", "All", "--message-attribute-names", "All")["Messages"]
        self.assertEqual(message["Body"], "a first order")
        self.assertEqual(message["MessageAttributes"]["kind"]["StringValue"], "test")
        self.aws("delete-message", "--queue-url", url, "--receipt-handle", message["ReceiptHandle"])
        shown = self.aws("get-queue-attributes", "--queue-url", url, "--attribute-names", "All")["Attributes"]
        self.assertEqual((shown["ApproximateNumberOfMessages"], shown["VisibilityTimeout"]), ("0", "60"))
        self.assertIsNone(self.aws("receive-message", "--queue-url", url))
        self.aws("send-message-batch", "--queue-url", url, "--entries",
                 '[{"Id":"1","MessageBody":"one"},{"Id":"2","MessageBody":"two"}]')
        self.aws("purge-queue", "--queue-url", url)
        self.assertEqual(self.aws("list-queue-tags", "--queue-url", url)["Tags"], {"team": "pins"})
        self.aws("delete-queue", "--queue-url", url)

    def test_an_error_is_told_by_its_code(self):
        result = self.run_aws("get-queue-url", "--queue-name", "nothing")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("(AWS.SimpleQueueService.NonExistentQueue)", result.stderr)
        self.assertIn("The specified queue does not exist.", result.stderr)


if __name__ == "__main__":
    unittest.main()
