"""boto3 as its tutorials use it. Runs with a new one, which speaks JSON, and with an old one, which speaks Query.

    TENPIN_BINARY=target/release/tenpin python -m unittest test_sdk
"""

import json
import threading
import unittest

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

from broker import Broker, wait_until

NEW = int(botocore.__version__.split(".")[1]) >= 34


class SdkTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = cls.enterClassContext(Broker())
        cls.names = iter(range(1000))

    def setUp(self):
        self.sqs = self.client()

    def client(self, **more):
        return boto3.client(
            "sqs",
            endpoint_url=self.broker.endpoint,
            region_name=more.pop("region_name", "us-east-1"),
            aws_access_key_id=more.pop("account", "any"),
            aws_secret_access_key="any",
            config=Config(retries={"max_attempts": 0}),
            **more,
        )

    def queue(self, suffix="", **attributes):
        if suffix == ".fifo":
            attributes["FifoQueue"] = "true"
        name = f"queue-{next(self.names)}{suffix}"
        return self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def arn(self, url):
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]

    def receive(self, url, **more):
        more = {"WaitTimeSeconds": 20, **more}
        return self.sqs.receive_message(QueueUrl=url, **more).get("Messages", [])

    def counts(self, url):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
                 "ApproximateNumberOfMessagesDelayed"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return tuple(int(answer[name]) for name in names)

    def refused(self, code, status, call, **parameters):
        with self.assertRaises(ClientError) as caught:
            call(**parameters)
        response = caught.exception.response
        self.assertEqual(response["Error"]["Code"], code, response)
        self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], status, response)
        self.assertTrue(response["ResponseMetadata"]["RequestId"])
        return response["Error"]["Message"]

    def test_produce_and_consume(self):
        url = self.queue()
        sent = [self.sqs.send_message(QueueUrl=url, MessageBody=f"message {n}") for n in range(25)]
        self.assertEqual(len({answer["MessageId"] for answer in sent}), 25)
        bodies = []
        while len(bodies) < 25:
            for message in self.receive(url, MaxNumberOfMessages=10):
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        self.assertEqual(sorted(bodies), sorted(f"message {n}" for n in range(25)))
        self.assertEqual(self.counts(url), (0, 0, 0))
        self.assertEqual(self.receive(url, WaitTimeSeconds=0), [])

    def test_bodies_of_all_kinds(self):
        url = self.queue()
        for body in ["<a href=\"x\">&amp;</a>", "line\r\nline\ttab\n", "Grüße 你好 🎳", " ", "{\"json\": [1, 2]}", "x" * 262144]:
            self.sqs.send_message(QueueUrl=url, MessageBody=body)
            [message] = self.receive(url)
            self.assertEqual(message["Body"], body)
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        text = self.refused("InvalidMessageContents", 400, self.sqs.send_message, QueueUrl=url, MessageBody="\x01")
        self.assertIn("Invalid characters", text)

    def test_attributes_of_messages(self):
        url = self.queue()
        attributes = {
            "text": {"DataType": "String", "StringValue": "a <value>"},
            "number": {"DataType": "Number.int", "StringValue": "-12.5"},
            "bytes": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff\x10"},
            "other.name": {"DataType": "String", "StringValue": "x"},
        }
        self.sqs.send_message(
            QueueUrl=url, MessageBody="body", MessageAttributes=attributes,
            MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}})
        # boto3 itself compares the digests of what it sends and receives.
        [message] = self.receive(url, MessageAttributeNames=["All"], AttributeNames=["All"], VisibilityTimeout=0)
        self.assertEqual(message["MessageAttributes"], attributes)
        shown = message["Attributes"]
        self.assertEqual(shown["AWSTraceHeader"], "Root=1-2-3")
        self.assertEqual(shown["ApproximateReceiveCount"], "1")
        self.assertLessEqual(int(shown["SentTimestamp"]), int(shown["ApproximateFirstReceiveTimestamp"]))
        self.assertTrue(shown["SenderId"])
        [message] = self.receive(url, MessageAttributeNames=["other.*"], VisibilityTimeout=0)
        self.assertEqual(list(message["MessageAttributes"]), ["other.name"])
        self.assertNotIn("Attributes", message)
        [message] = self.receive(url)
        self.assertNotIn("MessageAttributes", message)
        self.refused("InvalidParameterValue", 400, self.sqs.send_message, QueueUrl=url, MessageBody="b",
                     MessageAttributes={"a": {"DataType": "String", "StringValue": ""}})
        self.refused("InvalidParameterValue", 400, self.sqs.send_message, QueueUrl=url, MessageBody="b",
                     MessageAttributes={"AWS.a": {"DataType": "String", "StringValue": "x"}})

    def test_delayed(self):
        url = self.queue(DelaySeconds="1")
        self.sqs.send_message(QueueUrl=url, MessageBody="by the queue")
        self.sqs.send_message(QueueUrl=url, MessageBody="at once", DelaySeconds=0)
        [message] = self.receive(url)
        self.assertEqual(message["Body"], "at once")
        [message] = self.receive(url)
        self.assertEqual(message["Body"], "by the queue")

    def test_a_slow_consumer_and_a_fast_one(self):
        url = self.queue(VisibilityTimeout="1")
        self.sqs.send_message(QueueUrl=url, MessageBody="work")
        [slow] = self.receive(url)
        # The slow one has not done its work in time, so that a fast one gets it, and has longer.
        [fast] = self.receive(url, VisibilityTimeout=600, AttributeNames=["ApproximateReceiveCount"])
        self.assertEqual(fast["MessageId"], slow["MessageId"])
        self.assertNotEqual(fast["ReceiptHandle"], slow["ReceiptHandle"])
        self.assertEqual(fast["Attributes"]["ApproximateReceiveCount"], "2")
        self.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=fast["ReceiptHandle"], VisibilityTimeout=0)
        [again] = self.receive(url, VisibilityTimeout=600)
        # An old handle deletes on a standard queue.
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=slow["ReceiptHandle"])
        self.assertEqual(self.counts(url), (0, 0, 0))
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])

    def test_a_watcher_of_the_counts(self):
        url = self.queue()
        for n in range(3):
            self.sqs.send_message(QueueUrl=url, MessageBody="now")
        for n in range(2):
            self.sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=900)
        self.assertEqual(self.counts(url), (3, 0, 2))
        messages = self.receive(url, MaxNumberOfMessages=2)
        self.assertEqual(self.counts(url), (3 - len(messages), len(messages), 2))
        for message in messages:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        self.assertEqual(self.counts(url), (3 - len(messages), 0, 2))

    def test_a_long_poll_gets_what_comes_later(self):
        url = self.queue(ReceiveMessageWaitTimeSeconds="20")
        found = []
        waiter = self.client()
        thread = threading.Thread(target=lambda: found.extend(waiter.receive_message(QueueUrl=url)["Messages"]))
        thread.start()
        self.sqs.send_message(QueueUrl=url, MessageBody="late")
        thread.join(60)
        self.assertEqual([message["Body"] for message in found], ["late"])

    def test_fifo_with_groups(self):
        url = self.queue(".fifo", ContentBasedDeduplication="true")
        numbers = []
        for n in range(6):
            answer = self.sqs.send_message(QueueUrl=url, MessageBody=f"{n}", MessageGroupId=f"group-{n % 2}")
            numbers.append(answer["SequenceNumber"])
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual({len(number) for number in numbers}, {20})
        again = self.sqs.send_message(QueueUrl=url, MessageBody="0", MessageGroupId="group-0")
        self.assertEqual(again["SequenceNumber"], numbers[0])
        by_group = {"group-0": [], "group-1": []}
        for _ in range(6):
            [message] = self.receive(url, AttributeNames=["All"])
            group = message["Attributes"]["MessageGroupId"]
            by_group[group].append(message["Body"])
            self.assertTrue(message["Attributes"]["MessageDeduplicationId"])
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        self.assertEqual(by_group, {"group-0": ["0", "2", "4"], "group-1": ["1", "3", "5"]})

    def test_fifo_blocks_a_group_and_repeats_an_attempt(self):
        url = self.queue(".fifo")
        for n, group in enumerate(["a", "a", "b"]):
            self.sqs.send_message(QueueUrl=url, MessageBody=f"{n}", MessageGroupId=group, MessageDeduplicationId=f"{n}")
        attempt = {"ReceiveRequestAttemptId": "attempt-1"}
        [first] = self.receive(url, **attempt)
        [repeated] = self.receive(url, **attempt)
        self.assertEqual(first["ReceiptHandle"], repeated["ReceiptHandle"])
        [other] = self.receive(url)
        self.assertEqual((first["Body"], other["Body"]), ("0", "2"))
        self.assertEqual(self.receive(url, WaitTimeSeconds=0), [])
        text = self.refused("MissingParameter", 400, self.sqs.send_message, QueueUrl=url, MessageBody="x",
                            MessageDeduplicationId="x")
        self.assertEqual(text, "The request must contain the parameter MessageGroupId.")
        text = self.refused("InvalidParameterValue", 400, self.sqs.send_message, QueueUrl=url, MessageBody="x",
                            MessageGroupId="x")
        self.assertIn("ContentBasedDeduplication enabled or MessageDeduplicationId", text)

    def test_dead_letters_and_move_tasks(self):
        dead = self.queue()
        policy = {"deadLetterTargetArn": self.arn(dead), "maxReceiveCount": 1}
        url = self.queue(RedrivePolicy=json.dumps(policy))
        self.sqs.send_message(QueueUrl=url, MessageBody="poison")
        [message] = self.receive(url, VisibilityTimeout=0)
        self.assertEqual(self.receive(url, WaitTimeSeconds=0), [])
        [letter] = self.receive(dead, AttributeNames=["All"], VisibilityTimeout=0)
        self.assertEqual((letter["Body"], letter["MessageId"]), ("poison", message["MessageId"]))
        self.assertEqual(letter["Attributes"]["DeadLetterQueueSourceArn"], self.arn(url))
        sources = self.sqs.list_dead_letter_source_queues(QueueUrl=dead)
        self.assertEqual(sources["queueUrls"], [url])
        task = self.sqs.start_message_move_task(SourceArn=self.arn(dead))
        self.assertTrue(task["TaskHandle"])

        def is_done():
            [task] = self.sqs.list_message_move_tasks(SourceArn=self.arn(dead))["Results"]
            return task["Status"] == "COMPLETED" and task
        done = wait_until("the task is done", is_done)
        self.assertEqual(done["ApproximateNumberOfMessagesMoved"], 1)
        [message] = self.receive(url)
        self.assertEqual(message["Body"], "poison")
        text = self.refused("AWS.SimpleQueueService.UnsupportedOperation", 400, self.sqs.cancel_message_move_task,
                            TaskHandle=task["TaskHandle"])
        self.assertEqual(text, "Only active tasks can be cancelled.")
        text = self.refused("InvalidParameterValue", 400, self.sqs.start_message_move_task, SourceArn=self.arn(url))
        self.assertIn("must be configured as a Dead Letter Queue", text)

    def test_batches(self):
        url = self.queue()
        entries = [{"Id": f"id-{n}", "MessageBody": f"{n}"} for n in range(9)]
        entries.append({"Id": "bad", "MessageBody": "\x01"})
        answer = self.sqs.send_message_batch(QueueUrl=url, Entries=entries)
        self.assertEqual([entry["Id"] for entry in answer["Successful"]], [f"id-{n}" for n in range(9)])
        [failed] = answer["Failed"]
        self.assertEqual((failed["Id"], failed["Code"], failed["SenderFault"]), ("bad", "InvalidMessageContents", True))
        messages = []
        while len(messages) < 9:
            messages += self.receive(url, MaxNumberOfMessages=10)
        handles = [{"Id": f"{n}", "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
        answer = self.sqs.change_message_visibility_batch(
            QueueUrl=url, Entries=[{**handle, "VisibilityTimeout": 100} for handle in handles])
        self.assertEqual(len(answer["Successful"]), 9)
        self.assertNotIn("Failed", answer)
        answer = self.sqs.delete_message_batch(QueueUrl=url, Entries=handles[:8] + [{"Id": "x", "ReceiptHandle": "nonsense"}])
        self.assertEqual(len(answer["Successful"]), 8)
        self.assertEqual([entry["Code"] for entry in answer["Failed"]], ["ReceiptHandleIsInvalid"])
        prefix = "AWS.SimpleQueueService."
        send = self.sqs.send_message_batch
        self.refused(prefix + "EmptyBatchRequest", 400, send, QueueUrl=url, Entries=[])
        twenty = [{"Id": f"{n}", "MessageBody": "x"} for n in range(20)]
        text = self.refused(prefix + "TooManyEntriesInBatchRequest", 400, send, QueueUrl=url, Entries=twenty)
        self.assertEqual(text, "Maximum number of entries per request are 10. You have sent 20.")
        self.refused(prefix + "BatchEntryIdsNotDistinct", 400, send, QueueUrl=url, Entries=[twenty[0], twenty[0]])
        self.refused(prefix + "InvalidBatchEntryId", 400, send, QueueUrl=url,
                     Entries=[{"Id": "a b", "MessageBody": "x"}])
        large = [{"Id": f"{n}", "MessageBody": "x" * 600_000} for n in range(2)]
        text = self.refused(prefix + "BatchRequestTooLong", 400, send, QueueUrl=url, Entries=large)
        self.assertEqual(text, "Batch requests cannot be longer than 1048576 bytes. You have sent 1200000 bytes.")

    def test_queues_tags_and_permissions(self):
        url = self.queue(VisibilityTimeout="45")
        name = url.rsplit("/", 1)[1]
        self.assertEqual(self.sqs.get_queue_url(QueueName=name)["QueueUrl"], url)
        self.assertEqual(self.sqs.list_queues(QueueNamePrefix=name)["QueueUrls"][0], url)
        self.assertEqual(self.sqs.create_queue(QueueName=name)["QueueUrl"], url)
        text = self.refused("QueueAlreadyExists", 400, self.sqs.create_queue, QueueName=name,
                            Attributes={"VisibilityTimeout": "46"})
        self.assertIn("different value for attribute VisibilityTimeout", text)
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "50", "MaximumMessageSize": "1024"})
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        self.assertEqual((attributes["VisibilityTimeout"], attributes["MaximumMessageSize"]), ("50", "1024"))
        self.assertEqual(attributes["QueueArn"], f"arn:aws:sqs:us-east-1:000000000000:{name}")
        self.assertNotIn("Attributes", self.sqs.get_queue_attributes(QueueUrl=url))
        self.refused("InvalidAttributeName", 400, self.sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["Nothing"])
        self.refused("InvalidAttributeValue", 400, self.sqs.set_queue_attributes, QueueUrl=url,
                     Attributes={"VisibilityTimeout": "43201"})
        text = self.refused("InvalidParameterValue", 400, self.sqs.send_message, QueueUrl=url, MessageBody="x" * 1025)
        self.assertIn("Message must be shorter than 1024 bytes.", text)
        self.sqs.tag_queue(QueueUrl=url, Tags={"team": "pins", "empty": ""})
        self.assertEqual(self.sqs.list_queue_tags(QueueUrl=url)["Tags"], {"team": "pins", "empty": ""})
        self.sqs.untag_queue(QueueUrl=url, TagKeys=["team", "empty"])
        self.assertNotIn("Tags", self.sqs.list_queue_tags(QueueUrl=url))
        self.sqs.add_permission(QueueUrl=url, Label="label", AWSAccountIds=["123456789012"], Actions=["SendMessage"])
        policy = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
        self.assertEqual(json.loads(policy)["Statement"][0]["Action"], "SQS:SendMessage")
        self.sqs.remove_permission(QueueUrl=url, Label="label")
        self.assertNotIn("Attributes", self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]))
        tagged = self.sqs.create_queue(QueueName=name + "-tagged", tags={"a": "b"})["QueueUrl"]
        self.assertEqual(self.sqs.list_queue_tags(QueueUrl=tagged)["Tags"], {"a": "b"})

    def test_lists_go_on(self):
        urls = {self.queue("-listed") for _ in range(5)}
        found = []
        for page in self.sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 2}):
            found += page["QueueUrls"]
        self.assertTrue(urls <= set(found))
        self.assertEqual(len(found), len(set(found)))

    def test_purge_and_delete(self):
        url = self.queue()
        self.sqs.send_message(QueueUrl=url, MessageBody="gone")
        self.sqs.purge_queue(QueueUrl=url)
        self.assertEqual(self.counts(url), (0, 0, 0))
        self.refused("AWS.SimpleQueueService.PurgeQueueInProgress", 403, self.sqs.purge_queue, QueueUrl=url)
        self.sqs.delete_queue(QueueUrl=url)
        missing = "AWS.SimpleQueueService.NonExistentQueue"
        text = self.refused(missing, 400, self.sqs.send_message, QueueUrl=url, MessageBody="x")
        self.assertEqual(text, "The specified queue does not exist." if NEW
                         else "The specified queue does not exist for this wsdl version.")
        with self.assertRaises(self.sqs.exceptions.QueueDoesNotExist):
            self.sqs.get_queue_url(QueueName="never-made")
        self.refused("AWS.SimpleQueueService.QueueDeletedRecently", 400, self.sqs.create_queue,
                     QueueName=url.rsplit("/", 1)[1])

    def test_handles_are_checked(self):
        url = self.queue()
        self.sqs.send_message(QueueUrl=url, MessageBody="x")
        [message] = self.receive(url)
        handle = message["ReceiptHandle"]
        self.refused("ReceiptHandleIsInvalid", 404, self.sqs.delete_message, QueueUrl=url, ReceiptHandle="nonsense")
        change = self.sqs.change_message_visibility
        self.refused("InvalidParameterValue", 400, change, QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=43201)
        change(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
        self.refused("AWS.SimpleQueueService.MessageNotInflight", 400, change, QueueUrl=url, ReceiptHandle=handle,
                     VisibilityTimeout=1)
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
        self.refused("InvalidParameterValue", 400, change, QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=1)

    def test_accounts_and_regions_keep_apart(self):
        here = self.queue()
        name = here.rsplit("/", 1)[1]
        there = self.client(region_name="eu-west-1")
        missing = "AWS.SimpleQueueService.NonExistentQueue"
        self.refused(missing, 400, there.get_queue_url, QueueName=name)
        self.assertNotEqual(there.create_queue(QueueName=name)["QueueUrl"], "")
        there.send_message(QueueUrl=there.get_queue_url(QueueName=name)["QueueUrl"], MessageBody="there")
        self.assertEqual(self.receive(here, WaitTimeSeconds=0), [])

    @unittest.skipUnless(NEW, "resources are tried with the newest one")
    def test_resources(self):
        sqs = boto3.resource("sqs", endpoint_url=self.broker.endpoint, region_name="us-east-1",
                             aws_access_key_id="any", aws_secret_access_key="any")
        queue = sqs.create_queue(QueueName=f"queue-{next(self.names)}")
        queue.send_messages(Entries=[{"Id": "1", "MessageBody": "one"}])
        [message] = queue.receive_messages(WaitTimeSeconds=20)
        self.assertEqual(message.body, "one")
        message.delete()
        self.assertEqual(sqs.get_queue_by_name(QueueName=queue.url.rsplit("/", 1)[1]).url, queue.url)


if __name__ == "__main__":
    unittest.main()
