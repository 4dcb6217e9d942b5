//! Queues and messages as the model has them, and what consumers were given of these.

use super::*;

/// A stored message.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) id: [u8; 16],
    pub(super) content: Vec<u8>,
    pub(super) order: usize,
    pub(super) sent_at_ms: u64,
    pub(super) available_at_ms: u64,
    /// Hidden by a change, or a repeated attempt, since its last delivery.
    pub(super) changed: bool,
    pub(super) receive_count: u32,
    pub(super) first_received_at_ms: u64,
    pub(super) delivered_at_ms: u64,
    pub(super) damaged: bool,
    pub(super) receives_before: u32,
    /// The ARN of the queue that it came from, if it did not come from a sender.
    pub(super) source: Option<String>,
    /// On a standard queue: its group.
    pub(super) group: Option<u8>,
    /// In flight, and nobody has noted yet how long.
    pub(super) processing: bool,
    /// What only a message of a FIFO queue has.
    pub(super) fifo: Option<fifo::Place>,
}

impl Stored {
    pub(super) fn state(&self, now_ms: u64) -> MessageState {
        match () {
            () if self.damaged => MessageState::Damaged,
            () if self.fifo.is_some() && self.receive_count == 0 => {
                let is_delayed = self.visible_since_ms() > now_ms;
                if is_delayed { MessageState::Delayed } else { MessageState::Visible }
            }
            () if self.available_at_ms <= now_ms => MessageState::Visible,
            () if self.receive_count == 0 => MessageState::Delayed,
            () => MessageState::InFlight,
        }
    }
}

impl Stored {
    pub(super) fn receives_here(&self) -> u32 {
        self.receive_count - self.receives_before
    }

    /// What it takes in a reply, at most.
    pub(super) fn shown_bytes(&self) -> u64 {
        let source = if self.source.is_some() { u64::from(message::SOURCE_BYTES_MAX) } else { 0 };
        self.content.len() as u64 + u64::from(DELIVERY_OVERHEAD_BYTES) + source
    }

    /// It is received.
    pub(super) fn hand_out(&mut self, visibility_ms: u64, now_ms: u64) -> Expected {
        self.receive_count += 1;
        self.changed = false;
        if self.receive_count == 1 {
            self.first_received_at_ms = now_ms;
        }
        self.delivered_at_ms = now_ms;
        self.available_at_ms = now_ms + visibility_ms;
        self.processing = true;
        self.expected()
    }

    pub(super) fn expected(&self) -> Expected {
        Expected {
            id: self.id,
            content: self.content.clone(),
            sent_at_ms: self.sent_at_ms,
            first_received_at_ms: self.first_received_at_ms,
            receive_count: self.receive_count,
            sequence_number: self.fifo.map_or(0, |place| place.sequence),
            source: self.source.clone(),
            arrival: Arrival(self.order),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Wait {
    pub(super) correlation: u32,
    pub(super) connection: u32,
    pub(super) deadline_ms: u64,
    pub(super) count_max: u32,
    pub(super) visibility_ms: u64,
    pub(super) bytes_max: u32,
    pub(super) attempt: Option<u8>,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) number: u64,
    pub(super) attributes: Attributes,
    pub(super) messages: Vec<Stored>,
    pub(super) waits: Vec<Wait>,
    pub(super) purged_at_ms: Option<u64>,
    pub(super) redrive: Option<(usize, u32)>,
    pub(super) allow: Allow,
    pub(super) attempts: Vec<fifo::Attempt>,
    pub(super) measured: fair::Measured,
    /// As of the test.
    pub(super) now_ms: u64,
}

impl Queue {
    pub(super) fn count(&self, state: MessageState, now_ms: u64) -> usize {
        self.messages.iter().filter(|message| message.state(now_ms) == state).count()
    }

    /// Whether it takes dead letters of this queue.
    pub(super) fn allows(&self, name: usize) -> bool {
        match self.allow {
            Allow::All => true,
            Allow::None => false,
            Allow::Only(allowed) => allowed == name,
        }
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        let retention_ms = self.attributes.retention_ms();
        self.messages.retain(|message| message.sent_at_ms + retention_ms > now_ms);
    }
}

impl Queue {
    pub(super) fn hide(&mut self, issued: &Issued, seconds: u32, now_ms: u64) -> Option<ErrorCode> {
        let has_expired = self.has_expired(issued, now_ms);
        if seconds > 43_200 {
            return Some(ErrorCode::InvalidParameterValue);
        }
        let Some(message) = self.messages.iter_mut().find(|message| issued.is_of(message)) else {
            return Some(ErrorCode::InvalidParameterValue);
        };
        if has_expired {
            return Some(ErrorCode::InvalidParameterValue);
        }
        if message.state(now_ms) != MessageState::InFlight {
            return Some(ErrorCode::MessageNotInflight);
        }
        let until_ms = now_ms + u64::from(seconds) * 1_000;
        if until_ms > message.delivered_at_ms + 43_200_000 {
            return Some(ErrorCode::InvalidParameterValue);
        }
        message.available_at_ms = until_ms;
        message.changed = true;
        None
    }
}

/// What a delivery has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) id: [u8; 16],
    pub(super) content: Vec<u8>,
    pub(super) sent_at_ms: u64,
    pub(super) first_received_at_ms: u64,
    pub(super) receive_count: u32,
    pub(super) sequence_number: u64,
    pub(super) source: Option<String>,
    pub(super) arrival: Arrival,
}

/// When a message came to its queue: what only the model knows, and no comparison looks at.
#[derive(Debug, Clone, Copy, Eq)]
pub(super) struct Arrival(pub(super) usize);

impl PartialEq for Arrival {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone)]
pub(super) struct Issued {
    pub(super) delivery: Delivery,
    pub(super) queue: u64,
    pub(super) id: [u8; 16],
    pub(super) correlation: u32,
    pub(super) arrival: Arrival,
}

impl Issued {
    /// Whether this is the message, and it has not moved since.
    pub(super) fn is_of(&self, message: &Stored) -> bool {
        message.id == self.id && message.order == self.arrival.0
    }
}
