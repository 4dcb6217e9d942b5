//! Results: what became of each entry of a batch, and the reply that says no more than "done".

use crate::error::ErrorCode;
use crate::layout::layout;

layout! {
    /// What became of an entry of a delete or a visibility change; also the payload of an error frame.
    pub struct Outcome<'a> as "outcome" {
        fixed {
            /// 0 for success, else the number of an [`ErrorCode`].
            number: u16,
        }
        fields {
            /// What is wrong, for people.
            1 text: &'a str,
        }
    }
}

impl Outcome<'_> {
    /// Whether it succeeded.
    pub fn is_success(&self) -> bool {
        self.number == 0
    }

    /// The code of what is wrong, where there is something wrong and this version knows it.
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_number(self.number)
    }
}

layout! {
    /// What became of an entry of a send.
    pub struct SendOutcome<'a> as "send outcome" {
        fixed {
            /// 0 for success, else the number of an [`ErrorCode`].
            number: u16,
            /// The message's id; zeros where it was refused.
            id: [u8; 16],
            /// Its place in its queue's order; 0 on standard queues and where it was refused.
            sequence_number: u64,
        }
        fields {
            /// What is wrong, for people.
            1 text: &'a str,
        }
    }
}

impl SendOutcome<'_> {
    /// Whether it was accepted.
    pub fn is_success(&self) -> bool {
        self.number == 0
    }

    /// The code of what is wrong, where there is something wrong and this version knows it.
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_number(self.number)
    }
}

layout! {
    /// Answers a send: an outcome for each entry, in their order.
    pub struct SendReply<'a> as "send reply" {
        lists {
            /// The outcomes.
            outcomes: SendOutcome<'a>,
        }
    }
}

layout! {
    /// Answers a delete or a visibility change: an outcome for each entry, in their order.
    pub struct OutcomeReply<'a> as "outcomes" {
        lists {
            /// The outcomes.
            outcomes: Outcome<'a>,
        }
    }
}

layout! {
    /// Answers a request that has nothing to tell but that it is done.
    pub struct Done as "done" {}
}
