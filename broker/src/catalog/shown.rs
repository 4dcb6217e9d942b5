//! A queue's settings as they are given out. An attribute that a queue does not have is left out.

use tenpin_protocol::AttributeCode;

use super::attributes::{Attributes, RANGES};
use super::change::KMS_REUSE_SECONDS_DEFAULT;
use super::details::Details;
use super::policy::Policy;
use super::redrive::{Redrive, RedriveAllow};

/// What a setting that is a number or a switch stands at.
pub fn attribute_number(attributes: &Attributes, details: &Details, code: AttributeCode) -> Option<u64> {
    if let Some(place) = RANGES.iter().position(|range| range.0 == code) {
        return Some(attributes.numbers()[place].into());
    }
    let encryption = &details.encryption;
    match code {
        AttributeCode::KmsDataKeyReusePeriodSeconds => {
            let default = encryption.kms_key.as_ref().map(|_| KMS_REUSE_SECONDS_DEFAULT);
            encryption.kms_reuse_seconds.or(default).map(u64::from)
        }
        AttributeCode::SqsManagedSseEnabled => Some(encryption.is_managed.into()),
        AttributeCode::FifoQueue => attributes.fifo.map(|_| 1),
        AttributeCode::ContentBasedDeduplication => attributes.fifo.map(|fifo| fifo.content_based.into()),
        _ => None,
    }
}

/// What a setting that is a text stands at.
pub fn attribute_text<'a>(
    attributes: &Attributes,
    details: &'a Details,
    code: AttributeCode,
) -> Option<&'a str> {
    match code {
        AttributeCode::Policy => details.policy.as_ref().map(Policy::text),
        AttributeCode::RedrivePolicy => details.redrive.as_ref().map(Redrive::text),
        AttributeCode::RedriveAllowPolicy => details.redrive_allow.as_ref().map(RedriveAllow::text),
        AttributeCode::KmsMasterKeyId => details.encryption.kms_key.as_deref(),
        AttributeCode::DeduplicationScope => attributes.fifo.map(|fifo| fifo.scope.name()),
        AttributeCode::FifoThroughputLimit => attributes.fifo.map(|fifo| fifo.throughput.name()),
        _ => None,
    }
}
