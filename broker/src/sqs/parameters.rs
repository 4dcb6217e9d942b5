//! The parameters of each action by their names: one table that both parsers go by.
//!
//! In JSON a list is called in the plural and a map is an object. In the Query protocol a list is called in the
//! singular, with a number behind it, and a map is a list of names and values. Where the two names differ,
//! the table has the second one behind a `=`. What is marked `required` must be there and not be empty;
//! a queue's URL may also be the path of the request, so that it is never required here.

use serde::de::MapAccess;

use super::actions::*;
use super::error::ServiceError;
use super::json::FromJson;
use super::query::{FromQuery, View};

/// What has parameters by their names: an action, an entry of a batch, a message.
pub(super) trait Parameters<'a>: Default {
    /// Takes the value of this parameter from a JSON object. False: there is no such parameter.
    fn take_json<M: MapAccess<'a>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error>;

    /// Takes all parameters out of a Query request.
    fn take_query(&mut self, view: &mut View<'_, 'a>) -> Result<(), ServiceError>;

    /// Checks that all is there that must be.
    fn require(&self) -> Result<(), ServiceError>;
}

/// Whether a parameter was given.
trait Given {
    fn is_given(&self) -> bool;
}

impl Given for super::Text<'_> {
    fn is_given(&self) -> bool {
        !self.is_empty()
    }
}

impl<T> Given for Option<T> {
    fn is_given(&self) -> bool {
        self.is_some()
    }
}

impl<T> Given for Vec<T> {
    fn is_given(&self) -> bool {
        !self.is_empty()
    }
}

macro_rules! parameters {
    ($($type:ident { $($field:ident: $name:literal $(= $query:literal)? $(, $required:ident)?;)* $(.. $inner:ident;)? })*) => {$(
        impl<'a> Parameters<'a> for $type<'a> {
            fn take_json<M: MapAccess<'a>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error> {
                match name {
                    $($name => self.$field = FromJson::next_value(map)?,)*
                    _ => {
                        $(return self.$inner.take_json(name, map);)?
                        #[allow(unreachable_code)]
                        return Ok(false);
                    }
                }
                Ok(true)
            }

            fn take_query(&mut self, view: &mut View<'_, 'a>) -> Result<(), ServiceError> {
                $(self.$field = FromQuery::take(view, parameters!(@query $name $($query)?))?;)*
                $(self.$inner.take_query(view)?;)?
                Ok(())
            }

            fn require(&self) -> Result<(), ServiceError> {
                $($(parameters!(@$required self.$field, $name);)?)*
                $(self.$inner.require()?;)?
                Ok(())
            }
        }
    )*};
    (@query $name:literal) => { $name };
    (@query $name:literal $query:literal) => { $query };
    (@required $field:expr, $name:expr) => {
        if !$field.is_given() {
            return Err(ServiceError::missing($name));
        }
    };
}

parameters! {
    AddPermission {
        queue_url: "QueueUrl";
        label: "Label", required;
        aws_account_ids: "AWSAccountIds" = "AWSAccountId", required;
        actions: "Actions" = "ActionName", required;
    }
    CancelMessageMoveTask {
        task_handle: "TaskHandle", required;
    }
    ChangeMessageVisibility {
        queue_url: "QueueUrl";
        receipt_handle: "ReceiptHandle", required;
        visibility_timeout: "VisibilityTimeout", required;
    }
    ChangeMessageVisibilityBatch {
        queue_url: "QueueUrl";
        entries: "Entries" = "ChangeMessageVisibilityBatchRequestEntry";
    }
    ChangeVisibilityEntry {
        id: "Id";
        receipt_handle: "ReceiptHandle";
        visibility_timeout: "VisibilityTimeout";
    }
    CreateQueue {
        queue_name: "QueueName", required;
        attributes: "Attributes" = "Attribute";
        tags: "tags" = "Tag";
    }
    DeleteMessage {
        queue_url: "QueueUrl";
        receipt_handle: "ReceiptHandle", required;
    }
    DeleteMessageBatch {
        queue_url: "QueueUrl";
        entries: "Entries" = "DeleteMessageBatchRequestEntry";
    }
    DeleteEntry {
        id: "Id";
        receipt_handle: "ReceiptHandle";
    }
    DeleteQueue {
        queue_url: "QueueUrl";
    }
    GetQueueAttributes {
        queue_url: "QueueUrl";
        attribute_names: "AttributeNames" = "AttributeName";
    }
    GetQueueUrl {
        queue_name: "QueueName", required;
        queue_owner_aws_account_id: "QueueOwnerAWSAccountId";
    }
    ListDeadLetterSourceQueues {
        queue_url: "QueueUrl";
        next_token: "NextToken";
        max_results: "MaxResults";
    }
    ListMessageMoveTasks {
        source_arn: "SourceArn", required;
        max_results: "MaxResults";
    }
    ListQueueTags {
        queue_url: "QueueUrl";
    }
    ListQueues {
        queue_name_prefix: "QueueNamePrefix";
        next_token: "NextToken";
        max_results: "MaxResults";
    }
    PurgeQueue {
        queue_url: "QueueUrl";
    }
    ReceiveMessage {
        queue_url: "QueueUrl";
        attribute_names: "AttributeNames" = "AttributeName";
        message_system_attribute_names: "MessageSystemAttributeNames" = "MessageSystemAttributeName";
        message_attribute_names: "MessageAttributeNames" = "MessageAttributeName";
        max_number_of_messages: "MaxNumberOfMessages";
        visibility_timeout: "VisibilityTimeout";
        wait_time_seconds: "WaitTimeSeconds";
        receive_request_attempt_id: "ReceiveRequestAttemptId";
    }
    RemovePermission {
        queue_url: "QueueUrl";
        label: "Label", required;
    }
    SendMessage {
        queue_url: "QueueUrl";
        .. message;
    }
    SendMessageBatch {
        queue_url: "QueueUrl";
        entries: "Entries" = "SendMessageBatchRequestEntry";
    }
    SendEntry {
        id: "Id";
        .. message;
    }
    NewMessage {
        message_body: "MessageBody", required;
        delay_seconds: "DelaySeconds";
        message_attributes: "MessageAttributes" = "MessageAttribute";
        message_system_attributes: "MessageSystemAttributes" = "MessageSystemAttribute";
        message_deduplication_id: "MessageDeduplicationId";
        message_group_id: "MessageGroupId";
    }
    SetQueueAttributes {
        queue_url: "QueueUrl";
        attributes: "Attributes" = "Attribute", required;
    }
    StartMessageMoveTask {
        source_arn: "SourceArn", required;
        destination_arn: "DestinationArn";
        max_number_of_messages_per_second: "MaxNumberOfMessagesPerSecond";
    }
    TagQueue {
        queue_url: "QueueUrl";
        tags: "Tags" = "Tag", required;
    }
    UntagQueue {
        queue_url: "QueueUrl";
        tag_keys: "TagKeys" = "TagKey", required;
    }
}

/// Calls a macro-like function for the type of each action: what both parsers choose by name.
macro_rules! for_each_action {
    ($name:expr, $parse:ident($($argument:expr),*)) => {
        for_each_action!(@match $name, $parse($($argument),*):
            AddPermission CancelMessageMoveTask ChangeMessageVisibility ChangeMessageVisibilityBatch CreateQueue
            DeleteMessage DeleteMessageBatch DeleteQueue GetQueueAttributes GetQueueUrl
            ListDeadLetterSourceQueues ListMessageMoveTasks ListQueueTags ListQueues PurgeQueue ReceiveMessage
            RemovePermission SendMessage SendMessageBatch SetQueueAttributes StartMessageMoveTask TagQueue
            UntagQueue)
    };
    (@match $name:expr, $parse:ident $arguments:tt: $($action:ident)*) => {
        match $name {
            $($crate::sqs::actions::ActionName::$action => {
                $parse::<$crate::sqs::actions::$action<'_>> $arguments.map($crate::sqs::actions::Action::$action)
            })*
        }
    };
}
pub(super) use for_each_action;
