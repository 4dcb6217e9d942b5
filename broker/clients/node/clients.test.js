import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as sdk from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";
import { startBroker } from "./broker.js";

let broker;
let sqs;

before(async () => {
  broker = await startBroker();
  sqs = new sdk.SQSClient({
    endpoint: broker.endpoint,
    region: "us-east-1",
    credentials: { accessKeyId: "any", secretAccessKey: "any" },
    maxAttempts: 1,
  });
});

after(async () => {
  sqs.destroy();
  await broker.stop();
});

let queues = 0;
async function queue(Attributes, suffix = "") {
  const command = new sdk.CreateQueueCommand({ QueueName: `queue-${queues++}${suffix}`, Attributes });
  return (await sqs.send(command)).QueueUrl;
}

test("produce and consume, with attributes", async () => {
  const QueueUrl = await queue();
  const MessageAttributes = {
    text: { DataType: "String", StringValue: "v" },
    bytes: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255, 1]) },
  };
  const sent = await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody: "Grüße \r\n 🎳", MessageAttributes }));
  // The SDK itself compares the digests.
  const { Messages } = await sqs.send(
    new sdk.ReceiveMessageCommand({
      QueueUrl,
      WaitTimeSeconds: 20,
      MessageAttributeNames: ["All"],
      MessageSystemAttributeNames: ["All"],
    }),
  );
  assert.equal(Messages.length, 1);
  assert.equal(Messages[0].Body, "Grüße \r\n 🎳");
  assert.equal(Messages[0].MessageId, sent.MessageId);
  assert.equal(Messages[0].MessageAttributes.text.StringValue, "v");
  assert.deepEqual([...Messages[0].MessageAttributes.bytes.BinaryValue], [0, 255, 1]);
  assert.equal(Messages[0].Attributes.ApproximateReceiveCount, "1");
  await sqs.send(new sdk.DeleteMessageCommand({ QueueUrl, ReceiptHandle: Messages[0].ReceiptHandle }));
  const nothing = await sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl }));
  assert.equal(nothing.Messages, undefined);
});

test("batches say what became of each entry", async () => {
  const QueueUrl = await queue();
  const Entries = [
    { Id: "good", MessageBody: "x" },
    { Id: "bad", MessageBody: "\u0001" },
  ];
  const answer = await sqs.send(new sdk.SendMessageBatchCommand({ QueueUrl, Entries }));
  assert.deepEqual(answer.Successful.map(({ Id }) => Id), ["good"]);
  assert.deepEqual(answer.Failed.map(({ Id, Code, SenderFault }) => [Id, Code, SenderFault]), [
    ["bad", "InvalidMessageContents", true],
  ]);
});

test("errors are of their classes", async () => {
  const missing = new sdk.GetQueueUrlCommand({ QueueName: "nothing" });
  await assert.rejects(sqs.send(missing), sdk.QueueDoesNotExist);
  const QueueUrl = await queue();
  const handle = new sdk.DeleteMessageCommand({ QueueUrl, ReceiptHandle: "nonsense" });
  await assert.rejects(sqs.send(handle), sdk.ReceiptHandleIsInvalid);
  const empty = new sdk.SendMessageBatchCommand({ QueueUrl, Entries: [] });
  await assert.rejects(sqs.send(empty), sdk.EmptyBatchRequest);
});

test("sqs-consumer gets everything once, and nothing stays", async () => {
  const QueueUrl = await queue();
  const wanted = Array.from({ length: 50 }, (_, number) => `message ${number}`);
  for (const MessageBody of wanted) await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody }));
  const found = [];
  await new Promise((resolve, reject) => {
    const consumer = Consumer.create({
      queueUrl: QueueUrl,
      sqs,
      batchSize: 10,
      waitTimeSeconds: 5,
      handleMessage: async (message) => {
        found.push(message.Body);
        return message;
      },
    });
    consumer.on("error", reject);
    consumer.on("processing_error", reject);
    consumer.on("response_processed", () => {
      if (found.length >= wanted.length) consumer.stop();
    });
    consumer.on("stopped", resolve);
    consumer.start();
  });
  assert.deepEqual(found.sort(), wanted.sort());
  const AttributeNames = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
  const counts = await sqs.send(new sdk.GetQueueAttributesCommand({ QueueUrl, AttributeNames }));
  assert.deepEqual(Object.values(counts.Attributes), ["0", "0"]);
});

test("a FIFO queue keeps the order of each group", async () => {
  const QueueUrl = await queue({ FifoQueue: "true", ContentBasedDeduplication: "true" }, ".fifo");
  for (const MessageBody of ["1", "2", "3"]) {
    await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody, MessageGroupId: "g" }));
  }
  const { Messages } = await sqs.send(
    new sdk.ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 20 }),
  );
  assert.deepEqual(Messages.map(({ Body }) => Body), ["1", "2", "3"]);
});
