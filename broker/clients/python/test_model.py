"""Every operation, parameter, attribute and error in the service model of the SDK that is installed.

What the endpoint knows of a parameter shows in what it says of a value of the wrong type: one that is unknown is
passed over. The errors, which cannot all be provoked, are those of the table in the broker's README, which a
test of the broker writes from what the broker says.

    TENPIN_BINARY=target/release/tenpin TENPIN_README=broker/README.md python -m unittest test_model
"""

import http.client
import json
import os
import re
import unittest
import urllib.parse

import botocore.session

from broker import Broker


class ModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = cls.enterClassContext(Broker())
        cls.model = botocore.session.get_session().get_service_model("sqs")
        cls.address = urllib.parse.urlsplit(cls.broker.endpoint).netloc

    def setUp(self):
        self.connection = http.client.HTTPConnection(self.address, timeout=60)
        self.addCleanup(self.connection.close)

    def ask(self, operation, parameters):
        """The status, and the error's name where it is one."""
        self.connection.request("POST", "/", json.dumps(parameters), {
            "X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"})
        response = self.connection.getresponse()
        body = json.loads(response.read() or b"{}")
        return response.status, body.get("__type", "#").split("#")[1], body

    def operations(self):
        return [self.model.operation_model(name) for name in self.model.operation_names]

    def test_every_operation_is_known(self):
        self.assertEqual(len(self.operations()), 23)
        self.assertEqual(self.ask("Nonsense", {})[1], "UnknownOperationException")
        for operation in self.operations():
            status, error, body = self.ask(operation.name, {})
            self.assertNotEqual(error, "UnknownOperationException", operation.name)
            required = getattr(operation.input_shape, "required_members", None)
            self.assertEqual(status == 200, not required, f"{operation.name}: {body}")

    def test_every_parameter_is_known(self):
        tried = 0
        for operation in self.operations():
            self.assertNotEqual(self.ask(operation.name, {"Nonsense": [{}]})[1], "SerializationException")
            for path, wrong in wrong_values(operation.input_shape):
                status, error, body = self.ask(operation.name, wrong)
                self.assertEqual((status, error), (400, "SerializationException"), f"{operation.name} {path}: {body}")
                tried += 1
        self.assertGreater(tried, 90)

    def test_every_attribute_of_queues_is_known(self):
        names = enum_of(self.model, "GetQueueAttributes", "AttributeNames")
        self.assertGreater(len(names), 20)
        attributes = {"FifoQueue": "true"}
        url = self.ask("CreateQueue", {"QueueName": "q.fifo", "Attributes": attributes})[2]["QueueUrl"]
        for name in names:
            status, _, body = self.ask("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": [name]})
            self.assertEqual(status, 200, f"{name}: {body}")
        shown = self.ask("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]})[2]["Attributes"]
        self.assertLessEqual(set(shown), set(names))
        self.assertEqual(set(names) - set(shown) - {"All"},
                         {"Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"}
                         & set(names) - set(shown))
        status, error, _ = self.ask("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["Nonsense"]})
        self.assertEqual((status, error), (400, "InvalidAttributeName"))

    def test_every_attribute_of_messages_is_known(self):
        url = self.ask("CreateQueue", {"QueueName": "messages"})[2]["QueueUrl"]
        member = "MessageSystemAttributeNames"
        operation = self.model.operation_model("ReceiveMessage")
        if member not in operation.input_shape.members:
            member = "AttributeNames"
        names = enum_of(self.model, "ReceiveMessage", member)
        for name in names:
            if name in QUEUE_ATTRIBUTES_IN_THE_OLD_MODEL:
                continue
            status, _, body = self.ask("ReceiveMessage", {"QueueUrl": url, member: [name]})
            self.assertEqual(status, 200, f"{name}: {body}")
        status, error, _ = self.ask("ReceiveMessage", {"QueueUrl": url, member: ["Nonsense"]})
        self.assertEqual((status, error), (400, "InvalidAttributeName"))
        sends = self.model.shape_for("MessageSystemAttributeNameForSends").enum
        self.assertEqual(list(sends), ["AWSTraceHeader"])

    def test_every_error_is_known(self):
        with open(os.environ["TENPIN_README"], encoding="utf-8") as file:
            rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| (\d+) \|", file.read(), re.MULTILINE)
        codes = {code: int(status) for _, code, status in rows}
        names = {name for name, _, _ in rows}
        errors = {shape.name: shape for operation in self.operations() for shape in operation.error_shapes}
        self.assertGreater(len(errors), 15)
        for name, shape in errors.items():
            stated = shape.metadata.get("error")
            if stated is None:
                self.assertIn(name, names)
                continue
            # The older model says how they are in the Query protocol.
            self.assertIn(stated["code"], codes, name)
            self.assertEqual(codes[stated["code"]], stated["httpStatusCode"], name)


# The older model has one list of names for both.
QUEUE_ATTRIBUTES_IN_THE_OLD_MODEL = {
    "Policy", "VisibilityTimeout", "MaximumMessageSize", "MessageRetentionPeriod", "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible", "CreatedTimestamp", "LastModifiedTimestamp", "QueueArn",
    "ApproximateNumberOfMessagesDelayed", "DelaySeconds", "ReceiveMessageWaitTimeSeconds", "RedrivePolicy", "FifoQueue",
    "ContentBasedDeduplication", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "DeduplicationScope",
    "FifoThroughputLimit", "RedriveAllowPolicy", "SqsManagedSseEnabled",
}

# They are refused as a whole: the model says that they are not implemented.
LISTS_THAT_NO_SERVICE_TAKES = {"StringListValues", "BinaryListValues"}


def enum_of(model, operation, member):
    return list(model.operation_model(operation).input_shape.members[member].member.enum)


def wrong_values(shape):
    """For each member, however deep, its path and parameters in which it alone has a value of the wrong type."""
    for name, member in shape.members.items():
        yield name, {name: "text" if member.type_name in ("list", "map") else ["list"]}
        if name in LISTS_THAT_NO_SERVICE_TAKES:
            continue
        for path, wrong in inner_values(member):
            yield f"{name}.{path}", {name: wrong}


def inner_values(shape):
    if shape.type_name == "structure":
        yield from wrong_values(shape)
    elif shape.type_name == "list":
        yield "[]", [{"an": "object"}] if shape.member.type_name != "structure" else ["text"]
        for path, wrong in inner_values(shape.member):
            yield f"[].{path}", [wrong]
    elif shape.type_name == "map":
        yield "{}", {"a": ["list"]}
        for path, wrong in inner_values(shape.value):
            yield f"{{}}.{path}", {"a": wrong}


if __name__ == "__main__":
    unittest.main()
